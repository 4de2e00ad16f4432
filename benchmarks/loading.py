"""Reading a cache to the device against a raw read of the same number of bytes, and making it against a raw write.

Sizes of CREMA-D (5,954 clips) and VGGSound (180,000 clips, 309 classes), 512 + 512, float16 and float32; random
embeddings. The raw read is np.fromfile of a file with only the same bytes. "Cache.stored" reads the HDF5 file as a fit
does, in its own type, checks included; "table" reads its clips. "read_training_data" is all that a fit does before it
trains: labels, splits, means and standard deviations, normalization, the copy to the device. The cache has a val split,
so none is carved. Everything was just written, so reads come from the page cache. "import" makes the cache from two
.npy files, on the disk when it ends; the raw write puts the same bytes there.

    python benchmarks/loading.py [--clips 5954,180000] [--rounds 3] [--device cpu]
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from rounds import machine, medians

from amr.extract.cache.reader import Cache
from amr.extract.cache.verify import verify
from amr.extract.config import ImportConfig
from amr.extract.import_embeddings import import_embeddings
from amr.fusion.config import FitConfig
from amr.fusion.data.folds import read_training_data

DIMS = {"audio": 512, "video": 512}
NUM_CLASSES = {5954: 6}  # other sizes: VGGSound's 309


def write_files(folder: Path, num_clips: int, dtype: str) -> None:
    """Write random embeddings and labels as files for an import, and a plain file `raw` with the same bytes."""
    rng = np.random.default_rng(0)
    with (folder / "raw").open("wb") as raw:
        for name, dim in DIMS.items():
            values = rng.standard_normal((num_clips, dim), dtype=np.float32).astype(dtype)
            np.save(folder / f"{name}.npy", values)
            values.tofile(raw)
    labels = rng.integers(NUM_CLASSES.get(num_clips, 309), size=num_clips)
    np.savetxt(folder / "labels.txt", labels, fmt="%d")


def make_cache(folder: Path, num_clips: int, dtype: str) -> Path:
    """Import the files."""
    tenth = num_clips // 10
    import_embeddings(
        ImportConfig(
            embeddings=tuple(f"{name}={folder / name}.npy" for name in DIMS),
            labels=str(folder / "labels.txt"),
            splits=f"train={num_clips - 2 * tenth},val={tenth},test={tenth}",
            dtype=dtype,
            out=str(folder / "cache.h5"),
            overwrite=True,
        )
    )
    return folder / "cache.h5"


def write_raw(values: np.ndarray, file: Path) -> None:
    """Write to the disk."""
    with file.open("wb") as raw:
        values.tofile(raw)
        os.fsync(raw.fileno())


def read_all(file: Path) -> None:
    """Read every embedding into memory."""
    with Cache.open(file) as cache:
        for name in cache.names:
            cache.stored(name)


def read_table(file: Path) -> None:
    """Read the clips."""
    with Cache.open(file) as cache:
        cache.table()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", default="5954,180000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    table = Table(
        *("clips", "dtype", "MiB", "raw read, s", "open, s", "table, s", "Cache.stored, s"),
        *("read_training_data, s", "verify, s", "raw write, s", "import, s"),
        *("read / raw", "all / raw", "verify / raw", "import / write"),
    )
    for num_clips in map(int, arguments.clips.split(",")):
        for dtype in ("float16", "float32"):
            with TemporaryDirectory() as folder:
                place = Path(folder)
                write_files(place, num_clips, dtype)
                cache, raw = make_cache(place, num_clips, dtype), place / "raw"
                values = np.fromfile(raw, dtype=dtype)
                config = FitConfig(cache=str(cache), device=arguments.device)
                times = medians(
                    {
                        "raw": lambda raw=raw, dtype=dtype: np.fromfile(raw, dtype=dtype),
                        "open": lambda cache=cache: Cache.open(cache).close(),
                        "table": lambda cache=cache: read_table(cache),
                        "read": lambda cache=cache: read_all(cache),
                        "all": lambda config=config: read_training_data(config, keep_steps=False),
                        "verify": lambda cache=cache: verify(cache),
                        "write": lambda values=values, place=place: write_raw(values, place / "again"),
                        "import": lambda place=place, n=num_clips, dtype=dtype: make_cache(place, n, dtype),
                    },
                    arguments.rounds,
                    device,
                )
                size = f"{raw.stat().st_size / 2**20:.0f}"
            pairs = (("read", "raw"), ("all", "raw"), ("verify", "raw"), ("import", "write"))
            ratios = (f"{times[a].wall / times[b].wall:.1f}" for a, b in pairs)
            table.add_row(f"{num_clips:,}", dtype, size, *(f"{t.wall:.3f}" for t in times.values()), *ratios)
    console = Console(width=180)
    console.print(machine(device))
    console.print(table)


if __name__ == "__main__":
    main()
