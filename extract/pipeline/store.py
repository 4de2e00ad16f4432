"""Memory-mapped store of prepared tensors: media are decoded once, and training epochs decode nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
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
from amr.extract.pipeline.workers import ClipLoader, Loaded, ManifestFiles, useful_workers

MARGIN = 1.05  # free disk space that is required, relative to the size of the store


@dataclass(frozen=True)
class Store:
    """Prepared tensors of all clips of a manifest.

    Attributes:
        tensors: Embedding name -> `(clips, *shape)` float16, memory-mapped: writing to them changes the store.
        present: Bool `(clips, names)`, true if the clip has the modality and it could be prepared.
        failures: {"id", "modality", "reason"} of each modality that exists but could not be prepared.
    """

    tensors: dict[str, Tensor]
    present: Tensor
    failures: list[dict[str, str]]


def open_store(
    folder: Path,
    manifest: Manifest,
    encoders: Mapping[str, Encoder],
    *,
    workers: int | None,
    batch_size: int,
    progress: Progress,
    max_seconds: float | None,
) -> Store:
    """Open the store of every clip as prepared for every encoder, and first decode what it lacks.

    A finished store of the same clips and inputs is opened unchanged, an unfinished one is continued, any other one is
    rebuilt.

    Args:
        folder: Folder of the store.
        manifest: Manifest of the clips.
        encoders: Embedding name -> encoder.
        workers: Number of decoding processes; by default one per core, 0 decodes in this process.
        batch_size: Number of clips decoded between two marks of what is done.
        progress: Listener that gets the size of the store before anything is written, and then the progress.
        max_seconds: Length to which waveforms are cut or padded with NaN, as `ModelEncoder.network` wants it.

    Raises:
        ValueError: Clips have inputs of different shapes, the folder holds other files, or `max_seconds` is needed.
        OSError: The disk has too little space.
        RuntimeError: An encoder cannot prepare any clip, or another process writes the store.
    """
    inputs = {name: _Input.of(name, encoder, max_seconds) for name, encoder in encoders.items()}
    wanted = _fingerprint(manifest, inputs)
    info = StoreInfo.read(folder)
    if info is None or not info.done or info.fingerprint != wanted or not info.is_whole(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with lock(folder / "store.json", "--store", owner=folder):
            files = ManifestFiles(manifest, tuple(dict.fromkeys(encoder.modality for encoder in encoders.values())))
            loader = ClipLoader(
                files,
                encoders,
                num_workers=useful_workers(workers, int(files.exist.sum()), progress),
                batch_size=batch_size,
                pin_memory=False,
            )
            info = _begin(folder, wanted, len(manifest), inputs, loader, progress)
            if not info.done:
                info = _fill(_StoreWriter(folder, info, manifest.ids, inputs), loader, batch_size, progress)
    elif (folder / "store.failures.jsonl").exists() or (folder / "store.json.lock").exists():
        # killed after the store was finished and before these were deleted, or the other process is still at it
        with suppress(RuntimeError, OSError), lock(folder / "store.json", "--store", owner=folder):
            Journal(folder / "store").remove()
    return _mapped(folder, info, tuple(inputs))


def _fill(writer: _StoreWriter, loader: ClipLoader, batch_size: int, progress: Progress) -> StoreInfo:
    """Decode what is not done and return the info of the finished store."""
    done = writer.done()
    batches = unfinished_batches(dict.fromkeys(writer.names, done), batch_size)
    progress.start(len(done), len(done) - sum(batch.stop - batch.start for batch in batches))

    def write(batch: Batch, loaded: list[Loaded]) -> None:
        num_failures = writer.write(batch, loaded)
        progress.advance(batch.stop - batch.start, num_failures)

    try:
        run_batches(loader, batches, write)
    finally:
        progress.stop()
    return writer.finish()


@dataclass(frozen=True)
class _Input:
    """Stored input of an encoder.

    Attributes:
        name: Name of the embedding.
        encoder: Encoder that prepares it.
        num_samples: Number of samples of every clip, if the input is a waveform.
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

    def cut(self, x: Tensor) -> Tensor:
        """Prepared tensor without the samples that do not fit into the store."""
        return x if self.num_samples is None else x[: self.num_samples]

    def pad(self, x: Tensor) -> Tensor:
        """Padded tensor, as stored. NaN carries the length: zeros would be silence."""
        if self.num_samples is None:
            return x
        return functional.pad(x, (0, self.num_samples - len(x)), value=torch.nan)

    def identity(self) -> dict[str, Any]:
        """Everything except the clips that determines the stored tensors."""
        prepare = type(self.encoder.prepare)
        return {
            "modality": self.encoder.modality,
            "prepare": f"{prepare.__module__}.{prepare.__qualname__}",
            "preprocessing": self.encoder.preprocessing,
            "num_samples": self.num_samples,
        } | ({} if self.num_samples is None else {"padding": "NaN"})  # stores of version 0.1 have zeros, and no lengths


def _fingerprint(manifest: Manifest, inputs: Mapping[str, _Input]) -> str:
    """SHA-256 of clip ids, files, start and end, and each input; not of weights, labels and splits."""
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
    """Info of the store to continue, or of a new, empty one."""
    old = StoreInfo.read(folder)
    if old is not None and old.fingerprint == fingerprint and old.is_whole(folder):
        return old
    if old is not None:
        progress.note(f"the store in {folder} has other clips or inputs, or is damaged: it is rebuilt")
    own = [] if old is None else [path for path in old.tensor_files(folder).values() if path.exists()]
    _check_own(folder, own, inputs)
    info = StoreInfo(fingerprint, num_clips, _learn_shapes(loader, num_clips, inputs), [], done=False)
    _check_room(folder, info, sum(path.stat().st_size for path in own), progress)
    for path in own:
        path.unlink()
    Journal(folder / "store").remove()
    info.create(folder)
    return info


def _check_room(folder: Path, info: StoreInfo, reusable_bytes: int, progress: Progress) -> None:
    """Report the size of the store.

    Raises:
        OSError: The disk has too little space.
    """
    num_bytes, num_clips = info.num_bytes, info.num_clips
    progress.note(f"the store needs {_size(num_bytes)} in {folder} for {num_clips} clips")
    free_bytes = shutil.disk_usage(folder).free + reusable_bytes
    if num_bytes * MARGIN > free_bytes:
        raise OSError(
            f"{folder} must have {_size(round(num_bytes * MARGIN))} free for a store of {num_clips} clips, "
            f"got {_size(free_bytes)}. Pass --store with a folder on a larger disk, or encoders of fewer frames= "
            "or a smaller size=."
        )


def _check_own(folder: Path, own: list[Path], inputs: Mapping[str, _Input]) -> None:
    """Raise ValueError for files in the folder that this module did not write."""
    for name in inputs:
        path = folder / f"{name}.npy"
        if path.exists() and path not in own:
            raise ValueError(
                f"--store must be a new folder or one with a store, got {str(folder)!r}, which holds another "
                f"{path.name}. Pass another --store."
            )


def _learn_shapes(loader: ClipLoader, num_clips: int, inputs: Mapping[str, _Input]) -> dict[str, tuple[int, ...]]:
    """Shapes of the first clips that can be prepared, searched in batches of growing size."""
    shapes: dict[str, tuple[int, ...]] = {}
    reasons: dict[str, str] = {}

    def look(batch: Batch, loaded: list[Loaded]) -> None:
        for clip in loaded:
            for name, x in clip.inputs.items():
                shapes.setdefault(name, tuple(inputs[name].pad(inputs[name].cut(x)).shape))
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


class _StoreWriter:
    """A writer of decoded batches that tracks which clips are done."""

    def __init__(self, folder: Path, info: StoreInfo, ids: list[str], inputs: Mapping[str, _Input]) -> None:
        self.names = tuple(info.shapes)
        self._folder, self._info, self._ids, self._inputs = folder, info, ids, inputs
        self._tensors = {name: np.load(path, mmap_mode="r+") for name, path in info.tensor_files(folder).items()}
        self._states = info.states(folder, "r+")
        self._journal = Journal(folder / "store")
        self._journal.compact({info.fingerprint: self.done()})

    def done(self) -> np.ndarray:
        """Clips that are done, bool `(clips,)`."""
        return np.asarray((self._states != TODO).all(axis=1))

    def write(self, batch: Batch, loaded: list[Loaded]) -> int:
        """Write a batch, mark it done, and return the number of (clip, modality) pairs that failed."""
        states = np.empty((len(loaded), len(self.names)), np.uint8)
        failures: list[Failure] = []
        for column, name in enumerate(self.names):
            values, present, reasons = self._rows(name, batch.start, loaded)
            self._tensors[name][batch.start : batch.stop] = values
            self._tensors[name].flush()
            states[:, column] = np.where(present, PRESENT, ABSENT)
            modality = self._inputs[name].encoder.modality
            failures += [Failure(row, self._ids[row], modality, reason) for row, reason in reasons.items()]
        self._journal.append(self._info.fingerprint, failures)
        self._states[batch.start : batch.stop] = states
        self._states.flush()
        return len({(failure.row, failure.modality) for failure in failures})

    def finish(self) -> StoreInfo:
        """Mark the store as done."""
        failures = self._journal.read({self._info.fingerprint: self.done()})
        # an interrupted batch is in the journal twice
        rows = sorted({(failure.row, failure.modality, failure.reason) for failure in failures})
        entries = [{"id": self._ids[row], "modality": modality, "reason": reason} for row, modality, reason in rows]
        finished = replace(self._info, failures=entries, done=True)
        finished.write(self._folder)
        self._journal.remove()
        return finished

    def _rows(self, name: str, start: int, loaded: list[Loaded]) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
        """Values and presence of each clip of a batch, and row -> reason why an existing modality has no value."""
        shape, given = self._info.shapes[name], self._inputs[name]
        values = np.zeros((len(loaded), *shape), np.float16)
        present = np.zeros(len(loaded), bool)
        reasons = {start + i: clip.failures[name] for i, clip in enumerate(loaded) if name in clip.failures}
        for i, clip in enumerate(loaded):
            if name not in clip.inputs:
                continue
            x = given.cut(clip.inputs[name])
            half = given.pad(x.to(torch.float16))
            if tuple(half.shape) != shape:
                raise ValueError(
                    f"--encoder {name}={given.encoder.spec} must give every clip the same shape, got {shape} and "
                    f"{tuple(half.shape)} (clip {self._ids[start + i]!r}). Type frames=4 instead of rate=."
                )
            if torch.isfinite(x.to(torch.float16)).all():
                values[i], present[i] = half.numpy(), True
            elif torch.isfinite(x).all():
                reasons[start + i] = f"{name}: a value of {float(x.abs().max()):g} does not fit into float16"
            else:
                reasons[start + i] = f"{name}: the prepared tensor is not finite"
        return values, present, reasons


def _mapped(folder: Path, info: StoreInfo, names: tuple[str, ...]) -> Store:
    """Open a finished store, with tensors in the order of the names."""
    files = info.tensor_files(folder)
    # not copy-on-write: the system would reserve as much memory as the store is large
    tensors = {name: torch.from_numpy(np.load(files[name], mmap_mode="r+")) for name in names}
    columns = [list(info.shapes).index(name) for name in names]
    present = torch.from_numpy(np.asarray(info.states(folder, "r") == PRESENT)[:, columns])
    return Store(tensors, present, info.failures)


def _size(num_bytes: int) -> str:
    """Size in binary units.

    >>> _size(3 * 2**29)
    '1.5 GiB'
    """
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.1f} MiB"
