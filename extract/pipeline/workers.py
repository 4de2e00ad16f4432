"""Ordered decoding and preparing of clips in worker processes; a clip that kills a worker is reported."""

from __future__ import annotations

import gc
import math
import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from amr.common.options import available_cores
from amr.common.progress import Progress
from amr.extract.encoders import Encoder
from amr.extract.pipeline.load import ClipList, Loaded, ManifestFiles, first_line, load, not_found

MAX_UNEXPLAINED_CRASHES = 3


@dataclass(frozen=True)
class Task:
    """A request to load the clip in `row` for the embeddings `names`."""

    row: int
    names: tuple[str, ...]


def useful_workers(requested: int | None, num_clips: int, progress: Progress) -> int:
    """Number of decoding processes: at most one per core and per clip. Fewer than requested are noted.

    Args:
        requested: Number that was requested, None for one per core.
        num_clips: Number of clips to decode.
        progress: Listener that gets the note.
    """
    cores = available_cores()
    workers = min(cores if requested is None else requested, cores, num_clips)
    if requested is not None and workers < requested and num_clips > 0:
        why = f"there are {cores} cores" if workers == cores else f"{num_clips} clips are left"
        progress.note(f"--workers {requested}: {workers} are used, because {why}")
    return workers


class ClipLoader:
    """A loader of clips, in order, in worker processes, with a bounded number loaded ahead.

    Clips without any file need no worker.

    Args:
        clips: All clips.
        encoders: Embedding name -> encoder.
        num_workers: Number of processes, at most one per core; 0 loads in this one.
        batch_size: Number of clips encoded at once, which is about the number loaded ahead.
        pin_memory: Whether to return tensors in pinned memory.
    """

    def __init__(
        self,
        clips: ClipList,
        encoders: Mapping[str, Encoder],
        *,
        num_workers: int,
        batch_size: int,
        pin_memory: bool,
    ) -> None:
        num_workers = min(num_workers, available_cores())  # more would only take turns, and torch warns of them
        self._dataset = _TaskDataset(clips, encoders, num_workers)
        self._exist = clips.exist if isinstance(clips, ManifestFiles) else None
        self._num_workers = num_workers
        self._prefetch = max(2, math.ceil(batch_size / max(1, num_workers)))
        self._pin_memory = pin_memory
        self._unexplained = 0

    def load(self, tasks: Sequence[Task]) -> Iterator[Loaded]:
        """Load the clips of the tasks, in their order."""
        exist = [self._exist is None or bool(self._exist[task.row]) for task in tasks]
        decoded = self._decode([task for task, exists in zip(tasks, exist, strict=True) if exists])
        for task, exists in zip(tasks, exist, strict=True):
            yield next(decoded) if exists else self._dataset.without_file(task)

    def _decode(self, tasks: Sequence[Task]) -> Iterator[Loaded]:
        if not tasks:
            return
        loader = DataLoader(
            self._dataset,
            sampler=tasks,
            batch_size=None,
            num_workers=min(self._num_workers, len(tasks)),
            prefetch_factor=self._prefetch if self._num_workers else None,
            collate_fn=_identity,
            pin_memory=self._pin_memory,
            worker_init_fn=partial(_begin_worker, os.getpid()),
            generator=torch.Generator(),  # of its own: the global one is the caller's
        )
        yield from loader

    def recover(self, error: RuntimeError) -> list[int]:
        """Return the rows whose clips kill the process that decodes them, after an error while loading.

        From now on they fail without being decoded, so that loading can continue.

        Raises:
            RuntimeError: The error is not that of a dead worker, or workers keep dying and no clip causes it.
        """
        if not tells_of_dead_worker(error):
            raise error
        deadly = [row for row in self._dataset.in_work() if not _survives(self._dataset, row)]
        self._dataset.deadly.update(deadly)
        if not deadly:
            self._unexplained += 1
        if self._unexplained >= MAX_UNEXPLAINED_CRASHES:
            raise RuntimeError(
                f"workers must stay alive, got {self._unexplained} killed, not by one clip ({first_line(error)}; "
                "memory may be short). Pass fewer --workers, or a smaller --batch-size; "
                "finished clips are saved."
            ) from error
        return deadly


class _TaskDataset(Dataset[Loaded]):
    """The dataset that workers read from; each worker notes in shared memory which clip it decodes."""

    def __init__(self, clips: ClipList, encoders: Mapping[str, Encoder], num_workers: int) -> None:
        self.deadly: set[int] = set()
        self._clips = clips
        self._modalities = {name: encoder.modality for name, encoder in encoders.items()}
        self._prepares = {name: encoder.prepare for name, encoder in encoders.items()}
        self._rows_in_work = torch.full((num_workers,), -1, dtype=torch.int64).share_memory_()

    def in_work(self) -> list[int]:
        """Return and forget the rows that workers decoded when they were stopped."""
        rows = sorted({int(row) for row in self._rows_in_work if row >= 0})
        self._rows_in_work.fill_(-1)
        return rows

    def __getitem__(self, task: Task) -> Loaded:
        if task.row in self.deadly:
            return Loaded({}, dict.fromkeys(task.names, "decoding it kills the process"))
        worker = get_worker_info()
        if worker is not None:
            self._rows_in_work[worker.id] = task.row
        prepares = {name: self._prepares[name] for name in task.names}
        loaded = load(self._clips[task.row], self._modalities, prepares)
        if worker is not None:
            self._rows_in_work[worker.id] = -1
        return loaded

    def without_file(self, task: Task) -> Loaded:
        """Clip of which no file exists: absent, or with a failure for each file that is listed."""
        paths = self._clips[task.row].paths
        missing = {name: path for name in task.names if (path := paths[self._modalities[name]]) is not None}
        return Loaded({}, {name: not_found(path) for name, path in missing.items()})

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all embeddings."""
        return tuple(self._prepares)


def _begin_worker(parent: int, worker: int) -> None:
    """Leave Ctrl-C to the parent, which ends its workers; end if the parent was killed while this worker started."""
    gc.freeze()  # frames that the parent left: freeing their scalers would wait for threads that a fork does not have
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.getppid() != parent:  # PyTorch's own watchdog starts too late for that
        os._exit(1)


def tells_of_dead_worker(error: RuntimeError) -> bool:
    """Whether torch raised an error because a worker died. A signal raises it at any point of the main thread."""
    return str(error).startswith("DataLoader worker (pid")


def _survives(dataset: _TaskDataset, row: int) -> bool:
    """Whether a separate process survives loading a clip."""
    process = multiprocessing.Process(target=_load_one, args=(dataset, row), daemon=True)
    process.start()
    process.join()
    return process.exitcode is not None and process.exitcode >= 0


def _load_one(dataset: _TaskDataset, row: int) -> None:
    torch.set_num_threads(1)  # as in the DataLoader's workers; a forked thread pool would hang
    dataset[Task(row, dataset.names)]


def _identity(loaded: Any) -> Any:
    return loaded
