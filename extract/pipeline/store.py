"""Media decoded once into a memory-mapped store of ready tensors, so that an epoch of training decodes nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from amr.common.progress import Progress
from amr.data_manifests.manifest import Manifest
from amr.extract.cache.fingerprint import clip_files
from amr.extract.cache.journal import Failure, Journal
from amr.extract.cache.lock import lock
from amr.extract.encoders import Encoder
from amr.extract.pipeline.batches import Batch, run_batches, unfinished_batches
from amr.extract.pipeline.store_files import ABSENT, PRESENT, TODO, VERSION, StoreInfo
from amr.extract.pipeline.workers import ClipLoader, Loaded, ManifestFiles

MARGIN = 1.05  # of the room that must be free, over what the store takes


@dataclass(frozen=True)
class Store:
    """Ready tensors of all clips of a manifest.

    Attributes:
        tensors: embedding name -> `(clips, *shape)` float16, memory-mapped: writing to them changes the store.
        present: bool `(clips, names)`: the clip has it and it could be prepared.
        failures: {"id", "modality", "reason"} of each modality that is there and could not be prepared.
    """

    tensors: dict[str, Tensor]
    present: Tensor
    failures: list[dict[str, str]]


def open_store(
    folder: Path,
    manifest: Manifest,
    encoders: Mapping[str, Encoder],
    *,
    workers: int,
    batch_size: int,
    progress: Progress,
    max_seconds: float | None,
) -> Store:
    """What every encoder's `prepare` makes of every clip; decoded where the folder does not hold it already.

    A finished store of the same clips and inputs is opened as it is, an unfinished one goes on, another one is made
    anew.

    Args:
        folder: of the store.
        manifest: the clips.
        encoders: embedding name -> encoder.
        workers: processes that decode; 0: none beside this one.
        batch_size: clips decoded between two marks of what is done.
        progress: hears of the store's size before anything is written, and how far it is.
        max_seconds: waveforms are cut or filled up with zeros to this length.

    Raises:
        ValueError: clips have inputs of different shapes, the folder holds other files, or waveforms no length.
        OSError: the disk has no room for it.
        RuntimeError: an encoder cannot prepare any clip, or another process writes the store.
    """
    inputs = {name: _Input.of(name, encoder, max_seconds) for name, encoder in encoders.items()}
    wanted = _fingerprint(manifest, inputs)
    record = StoreInfo.read(folder)
    if record is None or not record.done or record.fingerprint != wanted or not record.is_whole(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with lock(folder / "store.json", "--store"):
            loader = ClipLoader(
                ManifestFiles(manifest, tuple(dict.fromkeys(encoder.modality for encoder in encoders.values()))),
                encoders,
                num_workers=workers,
                batch_size=batch_size,
                pin_memory=False,
            )
            record = _begin(folder, wanted, len(manifest), inputs, loader, progress)
            if not record.done:
                record = _fill(_Filling(folder, record, manifest.ids, inputs), loader, batch_size, progress)
    return _mapped(folder, record, tuple(inputs))


def _fill(filling: _Filling, loader: ClipLoader, batch_size: int, progress: Progress) -> StoreInfo:
    """Decode what is not done; the record of the finished store."""
    done = filling.done()
    batches = unfinished_batches(dict.fromkeys(filling.names, done), batch_size)
    progress.start(len(done), len(done) - sum(batch.stop - batch.start for batch in batches))

    def keep(batch: Batch, loaded: list[Loaded]) -> None:
        num_failures = filling.write(batch, loaded)
        progress.advance(batch.stop - batch.start, num_failures)

    try:
        run_batches(loader, batches, keep)
    finally:
        progress.stop()
    return filling.finish()


@dataclass(frozen=True)
class _Input:
    """What is stored of an encoder.

    Attributes:
        name: of the embedding.
        encoder: that prepares it.
        num_samples: of every clip, where it is a waveform.
    """

    name: str
    encoder: Encoder
    num_samples: int | None

    @classmethod
    def of(cls, name: str, encoder: Encoder, max_seconds: float | None) -> _Input:
        prepare = encoder.prepare
        if not prepare.waveform or prepare.sample_rate_hz is None:
            return cls(name, encoder, None)
        if max_seconds is None:
            raise ValueError(
                f"max_seconds must be given for --encoder {name}={encoder.spec}, whose inputs are as long as their "
                "clips, got none. Pass --clip-seconds 10."
            )
        return cls(name, encoder, round(max_seconds * prepare.sample_rate_hz))

    def ready(self, x: Tensor) -> Tensor:
        """What `prepare` made, as it is stored, but for its precision."""
        if self.num_samples is None:
            return x
        return functional.pad(x[: self.num_samples], (0, max(0, self.num_samples - len(x))))

    def identity(self) -> dict[str, Any]:
        """Everything besides the clips that decides what is stored."""
        prepare = type(self.encoder.prepare)
        return {
            "modality": self.encoder.modality,
            "prepare": f"{prepare.__module__}.{prepare.__qualname__}",
            "preprocessing": self.encoder.preprocessing,
            "num_samples": self.num_samples,
        }


def _fingerprint(manifest: Manifest, inputs: Mapping[str, _Input]) -> str:
    """sha256 over clip ids, files, start and end, and each input; not over weights, labels and splits."""
    modalities = sorted({each.encoder.modality for each in inputs.values()})
    payload = {
        "version": VERSION,
        "dtype": "float16",
        "root": str(manifest.root),
        "clips": {m: clip_files(manifest.table, m).to_numpy().tolist() for m in modalities},
        "inputs": {name: each.identity() for name, each in inputs.items()},
    }
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()


def _begin(
    folder: Path,
    fingerprint: str,
    num_clips: int,
    inputs: Mapping[str, _Input],
    loader: ClipLoader,
    progress: Progress,
) -> StoreInfo:
    """The record of the store to go on with, or of a new, empty one."""
    old = StoreInfo.read(folder)
    if old is not None and old.fingerprint == fingerprint and old.is_whole(folder):
        return old
    if old is not None:
        progress.note(f"the store in {folder} is of other clips or inputs, or damaged: it is made anew")
    own = [] if old is None else [path for path in old.tensor_files(folder).values() if path.exists()]
    _check_own(folder, own, inputs)
    record = StoreInfo(fingerprint, num_clips, _learn_shapes(loader, num_clips, inputs), [], done=False)
    _check_room(folder, record, sum(path.stat().st_size for path in own), progress)
    for path in own:
        path.unlink()
    Journal(folder / "store").remove()
    record.create(folder)
    return record


def _check_room(folder: Path, record: StoreInfo, reusable_bytes: int, progress: Progress) -> None:
    """Say how large the store will be, and refuse what the disk cannot hold."""
    num_bytes, num_clips = record.num_bytes, record.num_clips
    progress.note(f"the store needs {_size(num_bytes)} in {folder} for {num_clips} clips")
    free_bytes = shutil.disk_usage(folder).free + reusable_bytes
    if num_bytes * MARGIN > free_bytes:
        raise OSError(
            f"{folder} must have {_size(round(num_bytes * MARGIN))} free for a store of {num_clips} clips, "
            f"got {_size(free_bytes)}. Pass --store with a folder on a larger disk, or encoders of fewer frames= "
            "or a smaller size=."
        )


def _check_own(folder: Path, own: list[Path], inputs: Mapping[str, _Input]) -> None:
    """Overwrite nothing that this module did not write."""
    for name in inputs:
        path = folder / f"{name}.npy"
        if path.exists() and path not in own:
            raise ValueError(
                f"--store must be a new folder or one with a store, got {str(folder)!r}, which holds another "
                f"{path.name}. Pass another --store."
            )


def _learn_shapes(loader: ClipLoader, num_clips: int, inputs: Mapping[str, _Input]) -> dict[str, tuple[int, ...]]:
    """The shapes of the first clip that can be prepared, looked for in ever more clips."""
    shapes: dict[str, tuple[int, ...]] = {}
    reasons: dict[str, str] = {}

    def look(batch: Batch, loaded: list[Loaded]) -> None:
        for clip in loaded:
            for name, x in clip.inputs.items():
                shapes.setdefault(name, tuple(inputs[name].ready(x).shape))
            for name, reason in clip.failures.items():
                reasons.setdefault(name, reason)

    start, size = 0, 1
    while start < num_clips and len(shapes) < len(inputs):
        unknown = tuple(name for name in inputs if name not in shapes)
        run_batches(loader, [Batch(start, min(start + size, num_clips), unknown)], look)
        start, size = start + size, 2 * size
    for name, each in inputs.items():
        if name not in shapes:
            raise RuntimeError(
                f"--encoder {name}={each.encoder.spec} must be able to prepare some clip, got none of {num_clips} "
                f"({reasons.get(name, f'none has {each.encoder.modality}')}). Check --root and the media."
            )
    return {name: shapes[name] for name in inputs}


class _Filling:
    """Writes what is decoded and knows what is done."""

    def __init__(self, folder: Path, record: StoreInfo, ids: list[str], inputs: Mapping[str, _Input]) -> None:
        self.names = tuple(record.shapes)
        self._folder, self._record, self._ids, self._inputs = folder, record, ids, inputs
        self._tensors = {name: np.load(path, mmap_mode="r+") for name, path in record.tensor_files(folder).items()}
        self._states = record.states(folder, "r+")
        self._journal = Journal(folder / "store")
        self._journal.compact({record.fingerprint: self.done()})

    def done(self) -> np.ndarray:
        """Bool `(clips,)`."""
        return np.asarray((self._states != TODO).all(axis=1))

    def write(self, batch: Batch, loaded: list[Loaded]) -> int:
        """Write a batch and mark it done; the number of (clip, modality) pairs that failed."""
        states = np.empty((len(loaded), len(self.names)), np.uint8)
        failures: list[Failure] = []
        for column, name in enumerate(self.names):
            values, present, reasons = self._rows(name, batch.start, loaded)
            self._tensors[name][batch.start : batch.stop] = values
            self._tensors[name].flush()
            states[:, column] = np.where(present, PRESENT, ABSENT)
            modality = self._inputs[name].encoder.modality
            failures += [Failure(row, self._ids[row], modality, reason) for row, reason in reasons.items()]
        self._journal.append(self._record.fingerprint, failures)
        self._states[batch.start : batch.stop] = states
        self._states.flush()
        return len({(failure.row, failure.modality) for failure in failures})

    def finish(self) -> StoreInfo:
        """Call the store done."""
        failures = self._journal.read({self._record.fingerprint: self.done()})
        # a batch that was cut short is in the journal twice
        rows = sorted({(failure.row, failure.modality, failure.reason) for failure in failures})
        entries = [{"id": self._ids[row], "modality": modality, "reason": reason} for row, modality, reason in rows]
        finished = replace(self._record, failures=entries, done=True)
        finished.write(self._folder)
        self._journal.remove()
        return finished

    def _rows(self, name: str, start: int, loaded: list[Loaded]) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
        """Values and presence of each clip of a batch, and row -> why there is nothing though the modality is."""
        shape, given = self._record.shapes[name], self._inputs[name]
        values = np.zeros((len(loaded), *shape), np.float16)
        present = np.zeros(len(loaded), bool)
        reasons = {start + i: clip.failures[name] for i, clip in enumerate(loaded) if name in clip.failures}
        for i, clip in enumerate(loaded):
            if name not in clip.inputs:
                continue
            x = given.ready(clip.inputs[name])
            if tuple(x.shape) != shape:
                raise ValueError(
                    f"--encoder {name}={given.encoder.spec} must give every clip the same shape, got {shape} and "
                    f"{tuple(x.shape)} (clip {self._ids[start + i]!r}). Type frames=4 instead of rate=."
                )
            half = x.to(torch.float16)
            if torch.isfinite(half).all():
                values[i], present[i] = half.numpy(), True
            elif torch.isfinite(x).all():
                reasons[start + i] = f"{name}: a value of {float(x.abs().max()):g} does not fit into float16"
            else:
                reasons[start + i] = f"{name}: what was prepared is not finite"
        return values, present, reasons


def _mapped(folder: Path, record: StoreInfo, names: tuple[str, ...]) -> Store:
    """A finished store, in the order of the names."""
    files = record.tensor_files(folder)
    # shared, not copied on write: the system would set as much memory aside as the store is large
    tensors = {name: torch.from_numpy(np.load(files[name], mmap_mode="r+")) for name in names}
    columns = [list(record.shapes).index(name) for name in names]
    present = torch.from_numpy(np.asarray(record.states(folder, "r") == PRESENT)[:, columns])
    return Store(tensors, present, record.failures)


def _size(num_bytes: int) -> str:
    """In binary units.

    >>> _size(3 * 2**29)
    '1.5 GiB'
    """
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.1f} MiB"
