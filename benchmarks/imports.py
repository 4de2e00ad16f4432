"""Time and memory of `amr import` for each format, against a raw write of the bytes.

Each import runs in a process of its own. Its peak is what it and the process that reads the file hold together (PSS, as
the kernel counts it), in addition to the imports of libraries, divided by the larger of the file's array and the stored
one. The bombs at the end are small files that unpack to much: they are refused, or bounded by memory.

    python benchmarks/imports.py [--clips 20000] [--dim 2048] [--dtype float32]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from rounds import machine
from scipy.io import savemat

SECONDS_BETWEEN_LOOKS = 0.01


def files(rows: np.ndarray, folder: Path) -> dict[str, Path]:
    """Write the rows in every format; format -> file."""
    dim = rows.shape[1]
    table = pd.DataFrame(rows, columns=[f"f{i}" for i in range(dim)])
    writers: dict[str, Callable[[Path], object]] = {
        "x.npy": lambda path: np.save(path, rows),
        "x.npz": lambda path: np.savez(path, x=rows),
        "x.mat": lambda path: savemat(path, {"x": rows}),
        "v73.mat": lambda path: _write_v73(path, rows),
        "x.pt": lambda path: torch.save(torch.from_numpy(rows), path),
        "x.parquet": table.to_parquet,
        "vectors.parquet": pd.DataFrame({"v": list(rows)}).to_parquet,
        "x.csv": lambda path: table.to_csv(path, index=False),
    }
    for name, write in writers.items():
        write(folder / name)
    (folder / "folder").mkdir()
    for row in range(min(len(rows), 5000)):
        np.save(folder / "folder" / f"{row:06}.npy", np.repeat(rows[row : row + 1], 10, axis=0))
    return {name: folder / name for name in [*writers, "folder"]}


def bombs(folder: Path) -> dict[str, Path]:
    """Small files that unpack to much, or say so."""
    _write_v73(folder / "bomb.mat", None)
    table = pd.DataFrame({"f": np.zeros(10**7)}).assign(g=0.0)
    table.to_parquet(folder / "bomb.parquet")
    head = np.lib.format
    with (folder / "bomb.npy").open("wb") as file:
        head.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 10**9)})
    (folder / "columns.csv").write_text(",".join(f"f{i}" for i in range(10**6)) + "\n" + "1," * (10**6 - 1) + "1\n")
    return {name: folder / name for name in ("bomb.mat", "bomb.parquet", "bomb.npy", "columns.csv")}


def _write_v73(path: Path, rows: np.ndarray | None) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        if rows is None:
            variable = file.create_dataset("x", shape=(10**5, 10**7), dtype="f8", chunks=(1000, 1000))
        else:
            variable = file.create_dataset("x", data=rows.T, chunks=(rows.shape[1], 1000))
        variable.attrs["MATLAB_class"] = np.bytes_("double" if rows is None else "single")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


def raw_write_seconds(num_bytes: int, folder: Path) -> float:
    """Seconds to write that many bytes and wait until they are on the disk."""
    content = np.zeros(num_bytes, np.uint8)
    began = time.perf_counter()
    with (folder / "raw").open("wb") as file:
        file.write(content.data)
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - began


def held_bytes() -> int:
    """Memory that this process and its own hold, shared pages counted once."""
    pids = [os.getpid()]
    with suppress(OSError):
        pids += map(int, Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())
    total = 0
    for pid in pids:
        with suppress(OSError, IndexError):
            total += int(Path(f"/proc/{pid}/smaps_rollup").read_text().split("\nPss:")[1].split()[0]) * 1024
    return total


def import_one(file: Path, dtype: str, num_clips: int) -> None:
    """Import a file and print seconds, peak bytes and the refusal, if any."""
    import pyarrow.parquet  # noqa: F401  (libraries count as base)
    import scipy.io  # noqa: F401

    from amr.extract.config import ImportConfig
    from amr.extract.import_embeddings import import_embeddings

    torch.zeros(1)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        labels = Path(folder) / "labels.txt"
        labels.write_text("".join(f"{i % 2}\n" for i in range(num_clips)))
        config = ImportConfig((f"x={file}",), labels=str(labels), out=f"{folder}/o.h5", dtype=dtype)
        peak = base = held_bytes()
        ended = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not ended.wait(SECONDS_BETWEEN_LOOKS):
                peak = max(peak, held_bytes())

        watcher = threading.Thread(target=watch)
        watcher.start()
        began, refused = time.perf_counter(), ""
        try:
            import_embeddings(config)
        except ValueError as error:
            refused = str(error)
        seconds = time.perf_counter() - began
        ended.set()
        watcher.join()
    print(f"{seconds}\t{peak - base}\t{refused}")


def in_process(file: Path, dtype: str, num_clips: int) -> tuple[float, int, str]:
    """Run `import_one` in a separate process."""
    command = [sys.executable, __file__, "--file", str(file), "--dtype", dtype, "--clips", str(num_clips)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, peak, refused = done.stdout.rstrip("\n").split("\t")
    return float(seconds), int(peak), refused


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.file:
        import_one(arguments.file, arguments.dtype, arguments.clips)
        return
    rows = np.random.default_rng(0).normal(size=(arguments.clips, arguments.dim)).astype(np.float32)
    table = Table("file", "seconds", "x raw write", "peak MiB", "x data")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw = raw_write_seconds(rows.size * np.dtype(arguments.dtype).itemsize, folder)
        for kind, file in files(rows, folder).items():
            num_clips = len(list(file.iterdir())) if file.is_dir() else len(rows)
            num_bytes = rows.nbytes if num_clips == len(rows) and not file.is_dir() else num_clips * 40 * arguments.dim
            seconds, peak, refused = in_process(file, arguments.dtype, num_clips)
            ratio = f"{peak / num_bytes:.2f}"
            table.add_row(kind, f"{seconds:.2f}", f"{seconds / raw:.1f}", f"{peak / 2**20:.0f}", refused or ratio)
        for kind, file in bombs(folder).items():
            seconds, peak, refused = in_process(file, arguments.dtype, 1)
            size = f"{file.stat().st_size / 1024:.0f} KiB: {refused or 'read'}"
            table.add_row(kind, f"{seconds:.2f}", "", f"{peak / 2**20:.0f}", size)
    console = Console()
    console.print(table)
    console.print(f"raw write: {raw:.2f} s. {machine(torch.device('cpu'))}")


if __name__ == "__main__":
    main()
