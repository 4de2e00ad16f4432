"""Time to open and to read a cache with its checks, and to read the same bytes without: `python benchmarks/cache.py`.

Prints the median of each and the ratio. Reading with checks should stay within 4 times a raw sequential read.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from amr.extract.cache.reader import Cache, EmbeddingInfo
from amr.extract.cache.structure import ClipTable
from amr.extract.cache.writer import Embedded, save


def main() -> None:
    """Write a cache, then time reading it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=200_000)
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="folder for the cache; by default a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        path = Path(folder) / "cache.h5"
        write_seconds = write(path, given.clips, given.dims)
        raw = Path(folder) / "raw"
        with Cache.open(path) as cache:
            cache.embedding("audio").astype(np.float16).tofile(raw)
        tasks: dict[str, Callable[[], object]] = {
            "raw read of the bytes": lambda: np.fromfile(raw, np.float16),
            "raw read, then float32": lambda: np.fromfile(raw, np.float16).astype(np.float32),
            "embedding in float32, with checks": lambda: read_embedding(path),
            "open": lambda: Cache.open(path).close(),
            "table of the clips": lambda: read_table(path),
        }
        seconds = {name: [] for name in tasks}
        for _ in range(given.rounds):  # one after the other, so that a busy machine hits them alike
            for name, task in tasks.items():
                seconds[name].append(timed(task))
        size = raw.stat().st_size / 2**20
        sys.stdout.write(
            f"{given.clips} clips x {given.dims} float16, {size:.0f} MiB; written in {write_seconds:.2f} s\n"
        )
        base = statistics.median(seconds["raw read of the bytes"])
        for name, found in seconds.items():
            median = statistics.median(found)
            sys.stdout.write(f"{name:36} {median:8.3f} s  {median / base:5.1f} x raw  (least {min(found):.3f} s)\n")


def write(path: Path, num_clips: int, dims: int) -> float:
    """Write a cache of one embedding. Returns the seconds that it takes."""
    values = np.random.default_rng(0).random((num_clips, dims), dtype=np.float32).astype(np.float16)
    ids = [f"clip{i:06}" for i in range(num_clips)]
    table = pd.DataFrame({"id": ids, "label": [str(i % 10) for i in range(num_clips)]})
    info = EmbeddingInfo("audio", "audio", "import:audio.npy", "", {}, "float16", dims)
    rows = Embedded(values, np.ones(num_clips, bool))
    return timed(lambda: save(path, ClipTable("benchmark", "", "", table), [(info, rows)]))


def read_embedding(path: Path) -> np.ndarray:
    """Read the rows as a fit does."""
    with Cache.open(path) as cache:
        return cache.embedding("audio")


def read_table(path: Path) -> pd.DataFrame:
    """Read the clips."""
    with Cache.open(path) as cache:
        return cache.table()


def timed(task: Callable[[], object]) -> float:
    """Seconds that a task takes."""
    began = time.perf_counter()
    task()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
