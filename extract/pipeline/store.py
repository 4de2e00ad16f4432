"""Memory-mapped store of prepared tensors: media are decoded once, and training epochs decode nothing.

Each tensor has rows only for clips whose media are on the disk, so a store is no larger than what there is to decode.
`store_files` describes the files, `store_inputs` what is kept of a clip; `store_writer` decodes. One process writes,
others wait for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from amr.common.files import check_space, has_checksum, in_units
from amr.common.files.lock import lock
from amr.common.progress import Progress
from amr.data_manifests.manifest import Manifest
from amr.extract.cache.fingerprint import clip_files
from amr.extract.cache.journal import Journal
from amr.extract.config import CLIP_TIMEOUT
from amr.extract.encoders import Encoder
from amr.extract.pipeline.load import ManifestFiles
from amr.extract.pipeline.store_files import NO_MEDIA, PRESENT, VERSION, RowFile, StoreInfo, rows_in_tensors
from amr.extract.pipeline.store_inputs import StoredInput, learn_shapes
from amr.extract.pipeline.store_writer import StoreWriter, fill
from amr.extract.pipeline.workers import ClipLoader, useful_workers

BYTES_AT_ONCE = 2**28  # largest block that is copied to a device
MARGIN = 1.05  # free disk space that is required, relative to the size of the store
ROOM_ADVICE = "Pass --store with a folder on a larger disk, or encoders of fewer frames= or a smaller size=."


@dataclass(frozen=True)
class Store:
    """Prepared tensors of the clips of a manifest.

    Attributes:
        tensors: Embedding name -> `(rows, *shape)` float16, one row per clip with media of the modality. Memory-mapped.
        files: Embedding name -> file of the tensor, to read rows from: to read mapped ones is to die if something
            shortens the file. Empty if the tensors are in the memory of a device.
        rows: Embedding name -> row of each clip in its tensor, int64 `(clips,)`; -1 for a clip without media.
        present: Bool `(clips, names)`, true if the clip has the modality and it could be prepared.
        failures: {"id", "modality", "reason"} of each modality that exists but could not be prepared.
    """

    tensors: dict[str, Tensor]
    files: dict[str, RowFile]
    rows: dict[str, Tensor]
    present: Tensor
    failures: list[dict[str, str]]

    @property
    def num_bytes(self) -> int:
        """Size of all tensors in bytes."""
        return sum(x.nbytes for x in self.tensors.values())

    def to(self, device: torch.device) -> Store:
        """The same store with its tensors and rows in the memory of a device, for all trainings that use it."""
        if device.type == "cpu":
            return self
        return replace(
            self,
            tensors={name: _copied(file, device) for name, file in self.files.items()},
            files={},
            rows={name: rows.to(device) for name, rows in self.rows.items()},
        )


def open_store(
    folder: Path,
    manifest: Manifest,
    encoders: Mapping[str, Encoder],
    *,
    workers: int | None,
    batch_size: int,
    progress: Progress,
    max_seconds: float | None,
    clip_timeout: float = CLIP_TIMEOUT,
) -> Store:
    """Open the store of every clip as prepared for every encoder, and first decode what it lacks.

    A finished store of the same clips and inputs is opened unchanged, an unfinished one is continued, any other one is
    rebuilt; so is one that lacks clips whose media are there now. While another process decodes into the folder, this
    one waits, and continues if the other dies.

    Args:
        folder: Folder of the store.
        manifest: Manifest of the clips.
        encoders: Embedding name -> encoder.
        workers: Number of decoding processes, as for `ClipLoader`; by default one per core.
        batch_size: Number of clips decoded between two marks of what is done.
        progress: Listener that gets the size of the store before anything is written, and then the progress.
        max_seconds: Length to which waveforms are cut or padded with NaN, as `ModelEncoder.network` wants it.
        clip_timeout: Seconds that decoding a clip may take.

    Raises:
        ValueError: Clips have inputs of different shapes, the folder holds other files, `max_seconds` is needed, or the
            disk has too little space.
        RuntimeError: An encoder cannot prepare any clip, or this process writes the store already.
    """
    inputs = {name: StoredInput.of(name, encoder, max_seconds) for name, encoder in encoders.items()}
    files = ManifestFiles(manifest, tuple(dict.fromkeys(encoder.modality for encoder in encoders.values())))
    request = _Request(folder, files, inputs, _fingerprint(manifest, inputs))

    def say_waiting() -> None:
        progress.note(f"another process decodes into {folder}: waiting for it to end. --store names another folder.")

    info, _ = request.find()
    if info is None or not info.done:
        folder.mkdir(parents=True, exist_ok=True)
        with lock(folder / "store.json", "--store", owner=folder, on_wait=say_waiting):
            # mapped before another process may rebuild the store for other inputs; open maps stay as they are
            return _mapped(folder, _decode(request, workers, batch_size, clip_timeout, progress), tuple(encoders))
    if (folder / "store.failures.jsonl").exists() or (folder / "store.json.lock").exists():
        # killed after the store was finished and before these were deleted, or the other process is still at it
        with suppress(RuntimeError, OSError), lock(folder / "store.json", "--store", owner=folder):
            Journal(folder / "store").remove()
    return _mapped(folder, info, tuple(encoders))


@dataclass(frozen=True)
class _Request:
    """A requested store.

    Attributes:
        folder: Folder of the store.
        files: Clips of the manifest, and which of their media exist.
        inputs: Embedding name -> input to store.
        fingerprint: Fingerprint of clips and inputs.
    """

    folder: Path
    files: ManifestFiles
    inputs: dict[str, StoredInput]
    fingerprint: str

    def exist(self, names: Iterable[str]) -> np.ndarray:
        """Whether the media of each clip exist, bool `(clips, names)`."""
        return np.stack([self.files.existing[self.inputs[name].encoder.modality] for name in names], axis=1)

    def find(self) -> tuple[StoreInfo | None, str]:
        """Info of the folder's store if it can be opened or continued; else None, and why it is rebuilt, if it is.

        Listed files that are gone do no harm: they were decoded, or become failures.
        """
        info = StoreInfo.read(self.folder)
        if info is None:
            return None, "is damaged" if has_checksum(self.folder / "store.json") else ""
        if info.fingerprint != self.fingerprint or not info.is_whole(self.folder):
            return None, "has other clips or inputs, is of another version, or is damaged"
        num_new = int((self.exist(info.shapes) & (info.states(self.folder) == NO_MEDIA)).any(axis=1).sum())
        return (None, f"lacks media of {num_new} clips that are there now") if num_new else (info, "")


def _decode(
    request: _Request, workers: int | None, batch_size: int, clip_timeout: float, progress: Progress
) -> StoreInfo:
    """Continue or build the store, and return its info. The caller holds the lock."""
    info, reason = request.find()
    if info is not None and info.done:  # by the process that was waited for
        return info
    files, encoders = request.files, {name: each.encoder for name, each in request.inputs.items()}
    num_workers = useful_workers(workers, int(files.exist.sum()), progress)
    loader = ClipLoader(
        files,
        encoders,
        num_workers=num_workers,
        batch_size=batch_size,
        pin_memory=False,
        clip_timeout=clip_timeout,
    )
    if info is None:
        if reason:
            progress.note(f"the store in {request.folder} {reason}: it is rebuilt")
        info = _create(request, loader, progress)
    return fill(StoreWriter(request.folder, info, files.manifest, request.inputs), loader, batch_size, progress)


def _create(request: _Request, loader: ClipLoader, progress: Progress) -> StoreInfo:
    """Replace the folder's store by an empty one, and return its info."""
    folder, num_clips = request.folder, len(request.files.manifest)
    old = StoreInfo.read(folder)
    files = [] if old is None else [*old.tensor_files(folder).values()]
    known = [*files, *(path for path in folder.glob("*.npy") if has_checksum(path) and path not in files)]
    own = [path for path in known if path.exists()]
    _check_own(folder, own, request.inputs)
    counts = {modality: int(exist.sum()) for modality, exist in request.files.existing.items()}
    one_clip = learn_shapes(loader, num_clips, request.inputs)
    shapes = {name: (counts[request.inputs[name].encoder.modality], *shape) for name, shape in one_clip.items()}
    info = StoreInfo(request.fingerprint, num_clips, shapes, [], done=False)
    clips = f"{num_clips} clips ({', '.join(f'{count} with {modality}' for modality, count in counts.items())})"
    progress.note(f"the store needs {in_units(info.num_bytes)} in {folder} for {clips}")
    num_new_bytes = round(info.num_bytes * MARGIN) - sum(path.stat().st_size for path in own)
    check_space(folder, num_new_bytes, f"the store of {clips}", ROOM_ADVICE)
    for path in own:
        path.unlink()
    Journal(folder / "store").remove()
    info.create(folder, request.exist(shapes))
    return info


def _fingerprint(manifest: Manifest, inputs: Mapping[str, StoredInput]) -> str:
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


def _check_own(folder: Path, own: list[Path], inputs: Mapping[str, StoredInput]) -> None:
    """Raise ValueError for files in the folder that this module did not write."""
    for name in inputs:
        path = folder / f"{name}.npy"
        if path.exists() and path not in own:
            raise ValueError(
                f"--store must be a new folder or one with a store, got {str(folder)!r}, which holds another "
                f"{path.name}. Pass another --store."
            )


def _mapped(folder: Path, info: StoreInfo, names: tuple[str, ...]) -> Store:
    """Open a finished store, with tensors in the order of the names."""
    files = info.tensor_files(folder)
    # not copy-on-write: the system would reserve as much memory as the store is large
    tensors = {name: torch.from_numpy(np.load(files[name], mmap_mode="r+")) for name in names}
    opened = info.tensors(folder)
    states = info.states(folder)[:, [list(info.shapes).index(name) for name in names]]
    rows = torch.from_numpy(rows_in_tensors(states))
    return Store(
        tensors,
        {name: opened[name] for name in names},
        dict(zip(names, rows.T, strict=True)),
        torch.from_numpy(states == PRESENT),
        info.failures,
    )


def _copied(file: RowFile, device: torch.device) -> Tensor:
    """Tensor of a file, in the memory of a device."""
    num_rows = file.shape[0]
    tensor = torch.empty(file.shape, dtype=torch.float16, device=device)
    at_once = max(1, BYTES_AT_ONCE * num_rows // max(1, tensor.nbytes))
    for start in range(0, num_rows, at_once):
        tensor[start : start + at_once] = torch.from_numpy(file.read(start, min(start + at_once, num_rows))).to(device)
    return tensor
