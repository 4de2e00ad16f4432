"""Ordered decoding and preparing of clips in worker processes; a clip that kills a worker is reported."""

from __future__ import annotations

import gc
import math
import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from amr.common.options import available_cores
from amr.common.progress import Progress
from amr.data_manifests.manifest import Manifest, existing_files
from amr.extract.cache.reader import CANNOT_PREPARE
from amr.extract.encoders import Encoder, Prepare
from amr.extract.media.decode import decode
from amr.extract.media.sampling import FRAME_RATE_HZ

MAX_UNEXPLAINED_CRASHES = 3


@dataclass(frozen=True)
class ClipFiles:
    """Media files of one clip.

    Attributes:
        paths: Modality -> file; None if the clip lacks it.
        start_seconds: Start of the clip in its files, None for their start.
        end_seconds: End of the clip in its files, None for their end.
        audio_track: Index of the sound stream in its file, None for the file's default. An encoder's own goes first.
        folder_fps: Frames per second of a folder of images, None for the default. An encoder's own goes first.
    """

    paths: Mapping[str, Path | None]
    start_seconds: float | None = None
    end_seconds: float | None = None
    audio_track: int | None = None
    folder_fps: float | None = None


class ClipList(Protocol):
    """Clips by row."""

    def __getitem__(self, row: int, /) -> ClipFiles: ...


@dataclass(frozen=True)
class ManifestFiles:
    """The clips of a manifest, built on access.

    Attributes:
        manifest: Manifest of the clips.
        modalities: Modalities of the encoders.
    """

    manifest: Manifest
    modalities: tuple[str, ...]

    def __getitem__(self, row: int, /) -> ClipFiles:
        """Media files of the clip in a row."""
        paths = {modality: files[row] for modality, files in self._paths.items()}
        return ClipFiles(paths, *self.manifest.interval(row))

    @property
    def exist(self) -> np.ndarray:
        """Mask of the clips of which a file exists, `(clips,)`."""
        return np.logical_or.reduce(list(self.existing.values()))

    @cached_property
    def existing(self) -> dict[str, np.ndarray]:
        """Modality -> mask of the clips whose file exists, `(clips,)`. Folders are listed once, at the first use."""
        found = existing_files(path for files in self._paths.values() for path in files)
        return {m: np.array([path in found for path in files], bool) for m, files in self._paths.items()}

    @property
    def has_folders(self) -> bool:
        """Whether a clip is a folder of images."""
        return any(path is not None and path.is_dir() for files in self._paths.values() for path in files)

    @cached_property
    def _paths(self) -> dict[str, list[Path | None]]:
        return {modality: self.manifest.paths(modality) for modality in self.modalities}


@dataclass(frozen=True)
class Loaded:
    """A clip ready to be encoded. An embedding is in neither dict if the clip lacks its modality.

    Between processes it travels as bytes: a tensor would be put into shared memory, which costs more than copying
    (benchmarks/speed_paths.py), takes one open file each, and is scarce.

    Attributes:
        inputs: Embedding name -> output of its encoder's `prepare`.
        failures: Embedding name -> reason why an existing modality has no input.
    """

    inputs: dict[str, Tensor] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_arrays, ({name: value.numpy() for name, value in self.inputs.items()}, self.failures)

    def pin_memory(self) -> Loaded:
        """Copy to pinned memory; the DataLoader calls this in a separate thread."""
        return Loaded({name: value.pin_memory() for name, value in self.inputs.items()}, self.failures)


def _from_arrays(arrays: Mapping[str, np.ndarray], failures: dict[str, str]) -> Loaded:
    return Loaded({name: torch.from_numpy(values) for name, values in arrays.items()}, failures)


@dataclass(frozen=True)
class Task:
    """A request to load the clip in `row` for the embeddings `names`."""

    row: int
    names: tuple[str, ...]


def load(clip: ClipFiles, modalities: Mapping[str, str], prepares: Mapping[str, Prepare]) -> Loaded:
    """Decode each file of a clip once and prepare it for every encoder that reads it.

    Args:
        clip: Media files of the clip.
        modalities: Embedding name -> modality.
        prepares: Embedding name -> `prepare` of its encoder.
    """
    loaded = Loaded()
    for (path, audio_track, folder_fps), names in _readers(clip, modalities, prepares).items():
        if not path.exists():
            loaded.failures.update(dict.fromkeys(names, not_found(path)))
            continue
        samplings = [prepares[name].sampling for name in names]
        rates_hz = [prepares[name].sample_rate_hz for name in names]
        decoded = decode(
            path,
            samplings={sampling for sampling in samplings if sampling is not None},
            sample_rates_hz={rate_hz for rate_hz in rates_hz if rate_hz is not None},
            start_seconds=clip.start_seconds,
            end_seconds=clip.end_seconds,
            audio_track=audio_track,
            frame_rate_hz=folder_fps,
        )
        for name, sampling, rate_hz in zip(names, samplings, rates_hz, strict=True):
            frames = None if sampling is None else decoded.frames.get(sampling)
            media = frames if rate_hz is None else decoded.sound.get(rate_hz)
            if media is not None and media.size:
                try:
                    loaded.inputs[name] = prepares[name](media)
                except (ValueError, RuntimeError) as error:
                    loaded.failures[name] = f"{CANNOT_PREPARE}{name}: {first_line(error)}"
            elif modalities[name] in decoded.failures:
                loaded.failures[name] = decoded.failures[modalities[name]]
    return loaded


class _Reading(NamedTuple):
    path: Path
    audio_track: int | None
    folder_fps: float


def _readers(
    clip: ClipFiles, modalities: Mapping[str, str], prepares: Mapping[str, Prepare]
) -> dict[_Reading, list[str]]:
    """Names of the embeddings that are read together. Pictures are read along with any sound of their file."""
    readers: dict[_Reading, list[str]] = {}
    tracks: dict[Path, int | None] = {}
    for name in sorted(prepares, key=lambda name: prepares[name].sample_rate_hz is None):
        path, prepare = clip.paths[modalities[name]], prepares[name]
        if path is None:
            continue
        track = clip.audio_track if prepare.audio_track is None else prepare.audio_track
        if prepare.sample_rate_hz is None:
            track = tracks.get(path)
        tracks.setdefault(path, track)
        fps = (prepare.folder_fps or clip.folder_fps or FRAME_RATE_HZ) if path.is_dir() else FRAME_RATE_HZ
        readers.setdefault(_Reading(path, track, fps), []).append(name)
    return readers


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


def not_found(path: Path) -> str:
    """Reason of a failure."""
    return f"file not found: {path}"


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


def first_line(error: BaseException) -> str:
    """Type of an error and the first line of its message."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
