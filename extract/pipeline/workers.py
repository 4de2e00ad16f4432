"""Clips decoded and prepared for their encoders, in worker processes, in order; a clip that kills one is named."""

from __future__ import annotations

import math
import multiprocessing
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from amr.data_manifests.manifest import Manifest
from amr.extract.encoders import Encoder, Prepare
from amr.extract.media.decode import decode

MAX_UNEXPLAINED_CRASHES = 3
SMALL_BYTES = 1 << 18
# Large inputs wait in shared memory, one open file each: 1024 is a common limit of a process.
MAX_TENSORS_IN_FLIGHT = 512


@dataclass(frozen=True)
class ClipFiles:
    """Where one clip's media are.

    Attributes:
        paths: modality -> file; none where the clip lacks it.
        start_seconds: of the clip in its files, None for their beginning.
        end_seconds: None for their end.
    """

    paths: Mapping[str, Path | None]
    start_seconds: float | None = None
    end_seconds: float | None = None


class ClipList(Protocol):
    """Clips by row."""

    def __getitem__(self, row: int, /) -> ClipFiles: ...


@dataclass(frozen=True)
class ManifestFiles:
    """The clips of a manifest, built when they are asked for.

    Attributes:
        manifest: their list.
        modalities: of the encoders.
    """

    manifest: Manifest
    modalities: tuple[str, ...]

    def __getitem__(self, row: int, /) -> ClipFiles:
        """The clip in that row."""
        paths = {modality: self.manifest.path(row, modality) for modality in self.modalities}
        return ClipFiles(paths, *self.manifest.interval(row))


@dataclass(frozen=True)
class Loaded:
    """A clip ready to be encoded; embeddings in neither dict are those whose modality the clip lacks.

    Attributes:
        inputs: embedding name -> what its encoder's `prepare` made.
        failures: embedding name -> why there is nothing, though the modality is there.
    """

    inputs: dict[str, Tensor] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Parcel:
    """A loaded clip on its way from a worker: large tensors in shared memory, small ones as they are.

    A tensor in shared memory costs a connection and an open file, which is more than a small one is worth.
    """

    inputs: dict[str, Tensor | np.ndarray]
    failures: dict[str, str]

    @classmethod
    def pack(cls, loaded: Loaded) -> _Parcel:
        """In the worker."""
        plain = (torch.float32, torch.uint8)
        return cls(
            {
                name: value.numpy() if value.nbytes <= SMALL_BYTES and value.dtype in plain else value
                for name, value in loaded.inputs.items()
            },
            loaded.failures,
        )

    def pin_memory(self) -> _Parcel:
        """The same in pinned memory: called by the DataLoader, in a thread of its own."""
        pinned = {name: torch.as_tensor(value).pin_memory() for name, value in self.inputs.items()}
        return _Parcel({**pinned}, self.failures)

    def unpack(self) -> Loaded:
        """In memory that is not shared with workers, which is scarce."""
        return Loaded(
            {
                name: value.clone() if isinstance(value, Tensor) and value.is_shared() else torch.as_tensor(value)
                for name, value in self.inputs.items()
            },
            self.failures,
        )


@dataclass(frozen=True)
class Task:
    """What to load: the clip in `row`, for the embeddings `names`."""

    row: int
    names: tuple[str, ...]


def load(clip: ClipFiles, modalities: Mapping[str, str], prepares: Mapping[str, Prepare]) -> Loaded:
    """Decode each file of a clip once and prepare it for every encoder that reads it.

    Args:
        clip: where the media are.
        modalities: embedding name -> modality.
        prepares: embedding name -> what its encoder wants.
    """
    loaded = Loaded()
    readers: dict[Path, list[str]] = {}
    for name in prepares:
        path = clip.paths[modalities[name]]
        if path is not None:
            readers.setdefault(path, []).append(name)
    for path, names in readers.items():
        if not path.exists():
            loaded.failures.update(dict.fromkeys(names, f"file not found: {path}"))
            continue
        samplings = [prepares[name].sampling for name in names]
        rates_hz = [prepares[name].sample_rate_hz for name in names]
        decoded = decode(
            path,
            samplings={sampling for sampling in samplings if sampling is not None},
            sample_rates_hz={rate_hz for rate_hz in rates_hz if rate_hz is not None},
            start_seconds=clip.start_seconds,
            end_seconds=clip.end_seconds,
        )
        for name, sampling, rate_hz in zip(names, samplings, rates_hz, strict=True):
            frames = None if sampling is None else decoded.frames.get(sampling)
            media = frames if rate_hz is None else decoded.sound.get(rate_hz)
            if media is not None and media.size:
                try:
                    loaded.inputs[name] = prepares[name](media)
                except (ValueError, RuntimeError) as error:
                    loaded.failures[name] = f"cannot be prepared for {name}: {first_line(error)}"
            elif modalities[name] in decoded.failures:
                loaded.failures[name] = decoded.failures[modalities[name]]
    return loaded


class ClipLoader:
    """Loads clips in order, in worker processes, a bounded number ahead.

    Args:
        clips: all clips.
        encoders: embedding name -> encoder.
        num_workers: processes; 0 loads in this one.
        batch_size: clips encoded at once: about so many are loaded ahead.
        pin_memory: hand out tensors in pinned memory.
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
        self._dataset = _TaskDataset(clips, encoders, num_workers)
        self._num_workers = num_workers
        ahead = min(math.ceil(batch_size / max(1, num_workers)), MAX_TENSORS_IN_FLIGHT // len(encoders))
        self._prefetch = max(2, min(ahead, MAX_TENSORS_IN_FLIGHT // (len(encoders) * max(1, num_workers))))
        self._pin_memory = pin_memory
        self._unexplained = 0

    def load(self, tasks: Sequence[Task]) -> Iterator[Loaded]:
        """The clips of the tasks, in their order."""
        loader = DataLoader(
            self._dataset,
            sampler=tasks,
            batch_size=None,
            num_workers=min(self._num_workers, len(tasks)),
            prefetch_factor=self._prefetch if self._num_workers else None,
            collate_fn=_as_it_is,
            pin_memory=self._pin_memory,
            worker_init_fn=partial(_leave_if_orphaned, os.getpid()),
        )
        for parcel in loader:
            yield parcel.unpack()

    def recover(self, error: RuntimeError) -> list[int]:
        """After an error while loading: the rows whose clips kill the process that decodes them.

        They fail from now on without being decoded, so that loading can go on.

        Raises:
            RuntimeError: `error`, if it does not tell of a dead worker, or if workers die without any clip's fault.
        """
        if not tells_of_dead_worker(error):
            raise error
        deadly = [row for row in self._dataset.in_work() if not _survives(self._dataset, row)]
        self._dataset.deadly.update(deadly)
        if not deadly:
            self._unexplained += 1
        if self._unexplained >= MAX_UNEXPLAINED_CRASHES:
            shared = Path("/dev/shm")
            free = f"{shutil.disk_usage(shared).free >> 20} MiB are free in {shared}; " if shared.is_dir() else ""
            raise RuntimeError(
                f"workers must stay alive, got {self._unexplained} killed, not by any one clip ({first_line(error)}; "
                f"{free}memory may be short). Pass fewer --workers, or a smaller --batch-size: what is done is kept."
            ) from error
        return deadly


class _TaskDataset(Dataset[_Parcel]):
    """What a worker does; also notes, in shared memory, which clip it is at."""

    def __init__(self, clips: ClipList, encoders: Mapping[str, Encoder], num_workers: int) -> None:
        self.deadly: set[int] = set()
        self._clips = clips
        self._modalities = {name: encoder.modality for name, encoder in encoders.items()}
        self._prepares = {name: encoder.prepare for name, encoder in encoders.items()}
        self._at_work = torch.full((num_workers,), -1, dtype=torch.int64).share_memory_()

    def in_work(self) -> list[int]:
        """Rows that workers were at when they were stopped; forgotten afterwards."""
        rows = sorted({int(row) for row in self._at_work if row >= 0})
        self._at_work.fill_(-1)
        return rows

    def __getitem__(self, task: Task) -> _Parcel:
        if task.row in self.deadly:
            return _Parcel({}, dict.fromkeys(task.names, "decoding it kills the process"))
        worker = get_worker_info()
        if worker is not None:
            self._at_work[worker.id] = task.row
        prepares = {name: self._prepares[name] for name in task.names}
        loaded = load(self._clips[task.row], self._modalities, prepares)
        if worker is not None:
            self._at_work[worker.id] = -1
        return _Parcel.pack(loaded)

    @property
    def names(self) -> tuple[str, ...]:
        """Every embedding."""
        return tuple(self._prepares)


def _leave_if_orphaned(parent: int, worker: int) -> None:
    """End a worker whose parent was killed while it started: PyTorch's own watch begins after this, and too late."""
    if os.getppid() != parent:
        os._exit(1)


def tells_of_dead_worker(error: RuntimeError) -> bool:
    """Whether it is what torch raises when a worker process dies: from a signal, at any point of the main thread."""
    return str(error).startswith("DataLoader worker (pid")


def _survives(dataset: _TaskDataset, row: int) -> bool:
    """Whether a process of its own lives through loading a clip."""
    process = multiprocessing.Process(target=_load_alone, args=(dataset, row), daemon=True)
    process.start()
    process.join()
    return process.exitcode is not None and process.exitcode >= 0


def _load_alone(dataset: _TaskDataset, row: int) -> None:
    torch.set_num_threads(1)  # as in the DataLoader's workers; a forked thread pool does not answer
    dataset[Task(row, dataset.names)]


def _as_it_is(parcel: Any) -> Any:
    return parcel


def first_line(error: BaseException) -> str:
    """An error's kind and the first line of what it says."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
