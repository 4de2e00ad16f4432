"""The whole way at VGGSound's size, on clips of a tenth of a second: extract, kill, resume, shards, merge, fit, sweep.

Few clips are rendered, and linked under many names. Encoders have no weights (logmel, frames), so decoding is all of an
extraction. Every step is the command of a user, in a process of its own; memory is that of all its processes. What must
be equal is compared, and the script fails if it is not.

    python benchmarks/rehearsal.py [--clips 200000] [--shards 16] [--runs 65]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import pandas as pd
from rich.console import Console
from rich.table import Table
from rounds import machine

from amr.common.options import available_cores
from amr.data_manifests.synthetic import SyntheticConfig, render
from amr.extract.cache.reader import Cache
from amr.extract.encoders import build_encoder
from amr.extract.pipeline.load import ClipFiles
from amr.extract.pipeline.workers import ClipLoader, Task

NUM_RENDERED = 48
CLIPS_PER_FOLDER = 1000
ENCODERS = {"audio": "logmel", "video": "frames"}
EXTRACT = ("extract", "--manifest=clips.csv", *(f"--encoder={name}={spec}" for name, spec in ENCODERS.items()))
DECODED = 2000  # clips that are decoded without being written, for comparison; at most a tenth of all
SECONDS_BETWEEN_LOOKS = 0.2
MAX_GROWTH_MIB = 64  # of memory in the second half of an extraction


class Rehearsal:
    """Commands in a folder, and a table of what they took.

    Args:
        folder: Workspace.
        num_clips: Number of clips.
    """

    def __init__(self, folder: Path, num_clips: int) -> None:
        self.folder, self.num_clips = folder, num_clips
        self.table = Table("step", "seconds", "clips/s", "peak memory, MiB", "")

    def row(self, step: str, seconds: float, peak: float = 0, note: str = "", clips: int | None = None) -> None:
        """Add a row."""
        rate = "" if clips is None else f"{clips / seconds:.0f}"
        self.table.add_row(step, f"{seconds:.1f}", rate, f"{peak:.0f}" if peak else "", note)

    def run(self, step: str, *arguments: str, clips: int | None = None) -> list[float]:
        """Run a command to its end and add its row. Returns its memory over time in MiB."""
        began = time.monotonic()
        process = self.start(*arguments)
        with watched(process.pid) as memory:
            _, errors = process.communicate()
        if process.returncode:
            raise RuntimeError(f"amr {' '.join(arguments)} must end well, got status {process.returncode}: {errors}")
        self.row(step, time.monotonic() - began, max(memory), clips=clips)
        return memory

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command."""
        env = os.environ | {"AMR_HOME": str(self.folder)}
        command = [sys.executable, "-m", "amr", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=self.folder, env=env, **pipes)

    def num_done(self, cache: str) -> int:
        """Number of clips of a cache that need no further extraction; 0 if there is no cache yet."""
        with suppress(OSError, ValueError, RuntimeError), Cache.open(self.folder / "caches" / cache) as opened:
            return min(int(opened.done(name).sum()) for name in opened.names)
        return 0

    def wait_until(self, process: subprocess.Popen[str], is_reached: Callable[[], bool]) -> None:
        """Wait until something is reached, or the process has ended."""
        while process.poll() is None and not is_reached():
            time.sleep(SECONDS_BETWEEN_LOOKS)


@contextmanager
def watched(pid: int) -> Iterator[list[float]]:
    """Memory of a process and of all that it starts, in MiB, looked at again and again; shared pages count once."""
    memory, ended = [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(SECONDS_BETWEEN_LOOKS):
            memory.append(sum(map(_pss, _family(pid))) / 2**20)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield memory
    finally:
        ended.set()
        watcher.join()


def _family(pid: int) -> list[int]:
    with suppress(OSError):
        children = [
            int(each) for file in Path(f"/proc/{pid}/task").glob("*/children") for each in file.read_text().split()
        ]
        return [pid, *(each for child in children for each in _family(child))]
    return []


def _pss(pid: int) -> int:
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/smaps_rollup").read_text().split("\nPss:")[1].split()[0]) * 1024
    return 0


def write_clips(folder: Path, num_clips: int) -> list[Path]:
    """Render few clips, link them under many names, and list these in clips.csv. Returns the rendered ones."""
    rendered = render(SyntheticConfig(num_clips=NUM_RENDERED, duration_seconds=0.1), folder / "rendered")
    files = [rendered.root / path for path in rendered.table["path"]]
    rows = []
    for number in range(num_clips):
        path = Path("media", f"{number // CLIPS_PER_FOLDER:03d}", f"{number:06d}.mp4")
        if number % CLIPS_PER_FOLDER == 0:
            (folder / path).parent.mkdir(parents=True)
        os.link(files[number % NUM_RENDERED], folder / path)
        rows.append((f"{number:06d}", str(path), *rendered.table.loc[number % NUM_RENDERED, ["label", "split"]]))
    pd.DataFrame(rows, columns=["id", "path", "label", "split"]).to_csv(folder / "clips.csv", index=False)
    return files


def decode(files: list[Path], num_clips: int) -> float:
    """Seconds to decode and prepare as many clips with as many processes as an extraction has, after a first few."""
    encoders = {name: build_encoder(spec, name) for name, spec in ENCODERS.items()}
    clips = [ClipFiles(dict.fromkeys(ENCODERS, files[i % len(files)])) for i in range(num_clips)]
    loader = ClipLoader(clips, encoders, num_workers=available_cores(), batch_size=32, pin_memory=False)
    began = time.monotonic()
    for _ in loader.load([Task(row, tuple(encoders)) for row in range(len(clips))]):
        pass
    return time.monotonic() - began


def rehearse(rehearsal: Rehearsal, num_shards: int, num_runs: int) -> None:
    """Run every step.

    Raises:
        RuntimeError: A command fails, or a result is not what it must be.
    """
    num_clips = rehearsal.num_clips
    began = time.monotonic()
    files = write_clips(rehearsal.folder, num_clips)
    rehearsal.row("render, link, list", time.monotonic() - began)
    decoded = min(DECODED, num_clips // 10)
    rehearsal.row("decode alone", decode(files, decoded), note=f"{decoded} clips", clips=decoded)
    _extract_and_kill(rehearsal)
    for number in range(1, num_shards + 1):
        shard = f"--shard={number}/{num_shards}"
        rehearsal.run(f"extract {shard}", *EXTRACT, shard, clips=num_clips // num_shards)
    shards = sorted(str(path) for path in (rehearsal.folder / "caches").glob("clips.shard-*"))
    rehearsal.run(f"merge {len(shards)} shards", "merge", *shards, "--out=merged")
    _check_equal(rehearsal.folder / "caches" / "whole.h5", rehearsal.folder / "caches" / "merged.h5")
    rehearsal.run("verify", "verify", "merged")
    rehearsal.run("fit", "fit", "--cache=merged", "--epochs=3", "--amr-ratio=1:1", "--out=fit")
    ratios = ",".join(["none", *(f"{1 + i}:1" for i in range((num_runs - 1) // 5))])
    rehearsal.run(
        f"sweep of {num_runs} runs",
        "sweep",
        "--cache=merged",
        "--epochs=3",
        f"--amr-ratio={ratios}",
        "--seeds=5",
        "--out=swept",
    )
    rehearsal.run("report", "report", "swept", "--no-media", "--out=page.html")


def _extract_and_kill(rehearsal: Rehearsal) -> None:
    """Extract a bit more than a third, kill, and go on to the end."""
    command, num_clips = (*EXTRACT, "--out=whole"), rehearsal.num_clips
    began = time.monotonic()
    killed = rehearsal.start(*command)
    with watched(killed.pid) as memory:
        rehearsal.wait_until(killed, lambda: rehearsal.num_done("whole.h5") > num_clips // 3)
    killed.kill()
    killed.wait()
    num_done = rehearsal.num_done("whole.h5")
    rehearsal.row("extract, killed", time.monotonic() - began, max(memory), f"after {num_done} clips", num_done)
    began = time.monotonic()
    resumed = rehearsal.start(*command)
    rehearsal.wait_until(resumed, lambda: rehearsal.num_done("whole.h5") > num_done)
    rehearsal.row("resume, to the first clips", time.monotonic() - began)
    began, num_done = time.monotonic(), rehearsal.num_done("whole.h5")
    with watched(resumed.pid) as memory:
        _, errors = resumed.communicate()
    if resumed.returncode:
        raise RuntimeError(f"the resumed extraction must end well, got {errors}")
    quarters = [memory[i * len(memory) // 4 : (i + 1) * len(memory) // 4] or memory for i in range(4)]
    medians = [statistics.median(quarter) for quarter in quarters]
    if medians[3] > medians[1] + MAX_GROWTH_MIB:
        raise RuntimeError(f"memory must stay flat, got {medians} MiB in the quarters of the time")
    note = "MiB in each quarter of the time: " + ", ".join(f"{median:.0f}" for median in medians)
    rehearsal.row("resume, to the end", time.monotonic() - began, max(memory), note, num_clips - num_done)


def _check_equal(one: Path, other: Path) -> None:
    """Compare all datasets and attributes of two caches.

    Raises:
        RuntimeError: One differs.
    """

    def contents(file: h5py.File) -> dict[str, object]:
        found: dict[str, object] = {"/": dict(file.attrs)}
        file.visititems(lambda name, node: found.update({name: _content(node)}))
        return found

    with h5py.File(one) as a, h5py.File(other) as b:
        ours, theirs = contents(a), contents(b)
    differing = [name for name in {*ours} | {*theirs} if repr(ours.get(name)) != repr(theirs.get(name))]
    if differing:
        raise RuntimeError(f"a merged cache must equal one of a single extraction, got others: {', '.join(differing)}")


def _content(node: h5py.Group | h5py.Dataset) -> object:
    attributes = {name: bytes(value) if hasattr(value, "tobytes") else value for name, value in node.attrs.items()}
    return attributes, node[...].tobytes() if isinstance(node, h5py.Dataset) else None


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=200_000)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--runs", type=int, default=65)
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        rehearsal = Rehearsal(Path(folder), arguments.clips)
        rehearse(rehearsal, arguments.shards, arguments.runs)
        size = sum(path.stat().st_size for path in (Path(folder) / "caches").glob("merged.h5")) / 2**20
    console = Console(width=120)
    console.print(f"{arguments.clips:,} clips, a cache of {size:.0f} MiB. {machine()}")
    console.print(rehearsal.table)


if __name__ == "__main__":
    main()
