"""Write a cache so that a kill at any moment leaves it readable (docs/decisions/0006-killed-writers.md).

The structure changes only in a copy that replaces the file. In between, batches overwrite the bytes of
preallocated rows without HDF5, so its metadata never changes during an extraction.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from amr.common.version import __version__
from amr.extract.cache.fingerprint import clip_difference, differences, fingerprint
from amr.extract.cache.journal import Failure, Journal
from amr.extract.cache.lock import lock
from amr.extract.cache.reader import (
    Cache,
    EmbeddingInfo,
)
from amr.extract.cache.structure import (
    ClipTable,
    add_embedding,
    create,
    finish,
    remove_leftovers,
    replacing_cache,
    write_clips,
)


@dataclass(frozen=True)
class Embedded:
    """Rows of one embedding, for a batch or for all clips.

    Attributes:
        values: Embeddings, `(clips, embed_dim)` or `(clips, steps, embed_dim)`, 0 if not present.
        present: Mask of the clips that were embedded, `(clips,)` bool.
        num_steps: Number of filled steps, `(clips,)`; None for an embedding without steps.
        failures: Failures of these clips.
    """

    values: np.ndarray
    present: np.ndarray
    num_steps: np.ndarray | None = None
    failures: tuple[Failure, ...] = ()


def joined(parts: Sequence[Embedded]) -> Embedded:
    """Rows of several batches, in their order."""
    steps = [part.num_steps for part in parts if part.num_steps is not None]
    return Embedded(
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.present for part in parts]),
        np.concatenate(steps) if steps else None,
        tuple(failure for part in parts for failure in part.failures),
    )


class CacheWriter:
    """Writer of batches of embeddings, made by `open_writer`."""

    def __init__(self, path: Path, infos: dict[str, EmbeddingInfo]) -> None:
        self.path = path
        self.infos = infos
        self._journal = Journal(path)
        with Cache.open(path) as cache:
            self._journal.compact(cache.done_flags())
            self._done = {name: cache.done(name) for name in infos}
        self._slots = _find_slots(path, list(infos))
        self._descriptor = os.open(path, os.O_WRONLY)

    def done(self, name: str) -> np.ndarray:
        """Mask of the clips that need no more extraction, `(clips,)`."""
        return self._done[name].copy()

    def write(self, name: str, start: int, batch: Embedded) -> None:
        """Write the rows `start`, `start + 1`, ... of an embedding and mark them done."""
        rows, info = len(batch.present), self.infos[name]
        if batch.values.shape != (rows, *info.row_shape) or start + rows > len(self._done[name]):
            raise ValueError(
                f"rows of {name} must be shaped {info.row_shape} and end by clip {len(self._done[name])}, "
                f"got {batch.values.shape} from clip {start}. Pass as many rows as the batch has clips."
            )
        self._put(f"embeddings/{name}", start, batch.values)
        self._put(f"present/{name}", start, batch.present)
        if info.max_steps is not None and batch.num_steps is not None:
            self._put(f"num_steps/{name}", start, batch.num_steps)
        self._journal.append(info.fingerprint, batch.failures)
        os.fsync(self._descriptor)
        # Last: the mark may be on disk only after everything that it vouches for.
        self._put(f"done/{name}", start, np.ones(rows, dtype=bool))
        self._done[name][start : start + rows] = True

    def finalize(self) -> None:
        """Add failures and checksums, and mark the cache complete if every embedding is done."""
        os.fsync(self._descriptor)
        with Cache.open(self.path) as cache:
            finished = cache.complete
            failures = self._journal.read(cache.done_flags())
        if not finished:
            with replacing_cache(self.path, copy=True) as file:
                finish(file, failures)
        self._journal.remove()

    def close(self) -> None:
        """Close the file. What was written stays."""
        os.close(self._descriptor)

    def _put(self, dataset: str, start: int, values: np.ndarray) -> None:
        slot = self._slots[dataset]
        data = memoryview(np.ascontiguousarray(values, dtype=slot.dtype).tobytes())
        offset = slot.offset + start * slot.row_bytes
        while data:
            written = os.pwrite(self._descriptor, data, offset)
            data, offset = data[written:], offset + written


@contextmanager
def open_writer(
    path: Path,
    clips: ClipTable,
    infos: Sequence[EmbeddingInfo],
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> Iterator[CacheWriter]:
    """Create a cache or continue one: resume embeddings, add new ones, refresh the clips.

    Args:
        path: Path of the cache.
        clips: Clips of the manifest.
        infos: Requested embeddings; fingerprints are set here. Others in the cache stay as they are.
        resume: Whether the cache must already exist.
        overwrite: Whether to start over.

    Raises:
        ValueError: The cache was made from other clips or with other encoders. The message says what differs.
        FileNotFoundError: `resume` is set and there is no cache.
        RuntimeError: Another extraction is writing the cache.
    """
    path = Path(path).resolve()
    if resume and not path.is_file():
        raise FileNotFoundError(
            f"--resume must be used with an existing cache, got {str(path)!r}. Leave out --resume to start a new one."
        )
    requested = {info.name: fingerprinted(info, clips.table) for info in infos}
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock(path):
        remove_leftovers(path)
        if overwrite:
            check_replaceable(path)
        if overwrite or not path.exists():
            with replacing_cache(path, copy=False) as file:
                create(file, clips, list(requested.values()))
        else:
            requested = _extend(path, clips, requested)
        writer = CacheWriter(path, requested)
        try:
            yield writer
        finally:
            writer.close()


def check_replaceable(path: Path) -> None:
    """Check that `path` may be overwritten: it is a cache, perhaps damaged, or does not exist.

    Raises:
        ValueError: It is another kind of file.
    """
    if path.exists() and not h5py.is_hdf5(path):
        raise ValueError(
            f"--out must be a cache or a new file, got {str(path)!r}, which is neither. Choose another name."
        )


def save(
    path: Path, clips: ClipTable, embeddings: Sequence[tuple[EmbeddingInfo, Embedded | Iterable[Embedded]]]
) -> None:
    """Write a complete cache at once, replacing an existing one.

    Args:
        path: Path of the cache.
        clips: Clips of the cache.
        embeddings: Each embedding with the rows of all clips, or with parts of them in order, written as they come.
    """
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    check_replaceable(path)
    with lock(path):
        remove_leftovers(path)
        Journal(path).remove()
        with replacing_cache(path, copy=False) as file:
            create(file, clips, [fingerprinted(info, clips.table) for info, _ in embeddings])
            failures: list[Failure] = []
            for info, rows in embeddings:
                start = 0
                for part in [rows] if isinstance(rows, Embedded) else rows:
                    end = start + len(part.present)
                    file["embeddings"][info.name][start:end] = part.values
                    file["present"][info.name][start:end] = part.present
                    if info.max_steps is not None and part.num_steps is not None:
                        file["num_steps"][info.name][start:end] = part.num_steps
                    failures += part.failures
                    start = end
                file["done"][info.name][...] = True
            finish(file, failures)


def is_saved(path: Path, clips: ClipTable, infos: Sequence[EmbeddingInfo]) -> bool:
    """Whether a cache is complete and has these clips and embeddings, and no others."""
    with Cache.open(path) as cache:
        found = {name: cache.info(name).fingerprint for name in cache.names}
        requested = {info.name: fingerprinted(info, clips.table).fingerprint for info in infos}
        return cache.complete and cache.manifest_sha256 == clips.manifest_sha256 and found == requested


def fingerprinted(info: EmbeddingInfo, clips: pd.DataFrame) -> EmbeddingInfo:
    """Copy of `info` with its fingerprint over these clips and the version of this code."""
    return replace(info, fingerprint=fingerprint(info, clips), code_version=__version__)


def _extend(path: Path, clips: ClipTable, requested: dict[str, EmbeddingInfo]) -> dict[str, EmbeddingInfo]:
    """Add embeddings to a cache, refresh its clips, and return the requested infos as the cache has them."""
    with Cache.open(path) as cache:
        existing = {name: cache.info(name) for name in cache.names}
        table = cache.table()
        same_clips = (cache.dataset, cache.root, cache.manifest_sha256) == _identity(clips) and table.equals(
            clips.table
        )
    _refuse_other_clips(path, existing, table, clips.table)
    for name, info in requested.items():
        if name in existing:
            _refuse_other_encoder(existing[name], info)
    new = [info for name, info in requested.items() if name not in existing]
    if new or not same_clips:
        with replacing_cache(path, copy=True) as file:
            if not same_clips:
                write_clips(file, clips)
            for info in new:
                add_embedding(file, info, len(clips.table))
    return {
        name: replace(info, encoder=existing[name].encoder, fingerprint=existing[name].fingerprint)
        if name in existing
        else info
        for name, info in requested.items()
    }


def _refuse_other_clips(path: Path, existing: dict[str, EmbeddingInfo], old: pd.DataFrame, new: pd.DataFrame) -> None:
    for info in existing.values():
        difference = clip_difference(old, new, info.modality)
        if difference is not None:
            raise ValueError(
                f"--out must be a cache of the same clips, got {str(path)!r}, which {difference}. "
                "Pass --overwrite to start over, or another --out."
            )


def _refuse_other_encoder(old: EmbeddingInfo, new: EmbeddingInfo) -> None:
    found = differences(old, new)
    if found:
        was = ", ".join(f"{what} {before}" for what, before, _ in found)
        got = ", ".join(f"{what} {after}" for what, _, after in found) if len(found) > 1 else found[0][2]
        raise ValueError(
            f"--encoder {new.name} must be the one the cache was made with ({was}), got {got}. "
            "Pass --overwrite to start over, another name to add it, or another --out."
        )


def _identity(clips: ClipTable) -> tuple[str, str, str]:
    return clips.dataset, clips.root, clips.manifest_sha256


@dataclass(frozen=True)
class _Slot:
    """Position of a dataset's rows in the file."""

    offset: int
    row_bytes: int
    dtype: np.dtype


def _find_slots(path: Path, names: list[str]) -> dict[str, _Slot]:
    slots = {}
    with h5py.File(path, "r") as file:
        for key in [f"{group}/{name}" for group in ("embeddings", "present", "done", "num_steps") for name in names]:
            if key in file:
                dataset = file[key]
                row_bytes = dataset.dtype.itemsize * int(np.prod(dataset.shape[1:], dtype=int))
                slots[key] = _Slot(int(dataset.id.get_offset()), row_bytes, dataset.dtype)
    return slots
