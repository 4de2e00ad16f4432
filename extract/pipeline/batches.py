"""Batches of clips, cut by row whatever is done already, so that a resumed extraction sees the same batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from amr.extract.pipeline.load import Loaded
from amr.extract.pipeline.workers import ClipLoader, Task


@dataclass(frozen=True)
class Batch:
    """Clips `start` to `stop`, exclusive, to load for the embeddings `names`."""

    start: int
    stop: int
    names: tuple[str, ...]


def unfinished_batches(done: Mapping[str, np.ndarray], batch_size: int) -> list[Batch]:
    """Batches with unfinished clips, each with its unfinished embeddings.

    Args:
        done: Embedding name -> bool `(clips,)`, true if done.
        batch_size: Number of clips per batch; the last may have fewer.

    >>> unfinished_batches({"a": np.array([True, True, False]), "b": np.array([True, True, True])}, 2)
    [Batch(start=2, stop=3, names=('a',))]
    """
    num_clips = len(next(iter(done.values())))
    batches = []
    for start in range(0, num_clips, batch_size):
        rows = slice(start, min(start + batch_size, num_clips))
        names = tuple(name for name, flags in done.items() if not flags[rows].all())
        if names:
            batches.append(Batch(rows.start, rows.stop, names))
    return batches


def join_absent(batches: list[Batch], exist: np.ndarray, max_clips: int) -> list[Batch]:
    """Join neighboring batches without any file: nothing of them is encoded, so their cuts have no effect.

    Args:
        batches: Batches in the order of their rows.
        exist: Mask of the clips of which a file exists, `(clips,)`.
        max_clips: Largest number of clips of a joined batch, which must fit into memory.

    >>> join_absent([Batch(0, 2, ("a",)), Batch(2, 4, ("a",)), Batch(4, 5, ("a",))], np.arange(5) > 3, 100)
    [Batch(start=0, stop=4, names=('a',)), Batch(start=4, stop=5, names=('a',))]
    """
    joined: list[Batch] = []
    for batch in batches:
        last = joined[-1] if joined else None
        if (
            last is not None
            and (last.stop, last.names) == (batch.start, batch.names)
            and batch.stop - last.start <= max_clips
            and not exist[last.start : batch.stop].any()
        ):
            joined[-1] = Batch(last.start, batch.stop, batch.names)
        else:
            joined.append(batch)
    return joined


def run_batches(loader: ClipLoader, batches: list[Batch], handle: Callable[[Batch, list[Loaded]], None]) -> None:
    """Load and handle every batch in turn.

    Raises:
        RuntimeError: Workers keep dying, and no clip causes it.
    """
    tasks = [Task(row, batch.names) for batch in batches for row in range(batch.start, batch.stop)]
    with closing(loader.load(tasks)) as clips:
        for batch in batches:
            handle(batch, list(itertools.islice(clips, batch.stop - batch.start)))
