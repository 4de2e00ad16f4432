"""Writing a cache so that a kill at any moment leaves it readable (docs/decisions/0006-killed-writers.md).

Every change of structure is made on a copy that replaces the file; in between, batches overwrite bytes of
preallocated rows without HDF5, so that its metadata never changes while extracting.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
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
    """The rows of one embedding, of a batch or of all clips.

    Attributes:
        values: (clips, embed_dim) or (clips, steps, embed_dim), 0 where not present.
        present: (clips,) bool.
        num_steps: (clips,) filled steps, None for an embedding without steps.
        failures: of these clips.
    """

    values: np.ndarray
    present: np.ndarray
    num_steps: np.ndarray | None = None
    failures: tuple[Failure, ...] = ()


def joined(parts: Sequence[Embedded]) -> Embedded:
    """The rows of several batches, in their order."""
    steps = [part.num_steps for part in parts if part.num_steps is not None]
    return Embedded(
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.present for part in parts]),
        np.concatenate(steps) if steps else None,
        tuple(failure for part in parts for failure in part.failures),
    )


class CacheWriter:
    """Writes batches of embeddings; made by `open_writer`."""

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
        """(clips,) bool: what needs no extracting any more."""
        return self._done[name].copy()

    def write(self, name: str, start: int, batch: Embedded) -> None:
        """Write the rows `start`, `start + 1`, ... of an embedding and mark them done."""
        rows, info = len(batch.present), self.infos[name]
        if batch.values.shape != (rows, *info.row_shape) or start + rows > len(self._done[name]):
            raise ValueError(
                f"rows of {name} must be shaped {info.row_shape} and end by clip {len(self._done[name])}, "
                f"got {batch.values.shape} from clip {start}. Give as many rows as the batch has clips."
            )
        self._put(f"embeddings/{name}", start, batch.values)
        self._put(f"present/{name}", start, batch.present)
        if info.max_steps is not None and batch.num_steps is not None:
            self._put(f"num_steps/{name}", start, batch.num_steps)
        self._journal.append(info.fingerprint, batch.failures)
        os.fsync(self._descriptor)
        # Last, and only now that all it vouches for is on disk.
        self._put(f"done/{name}", start, np.ones(rows, dtype=bool))
        self._done[name][start : start + rows] = True

    def finalise(self) -> None:
        """Fold the failures in, add checksums, and call the cache complete if every embedding is done."""
        os.fsync(self._descriptor)
        with Cache.open(self.path) as cache:
            finished = cache.complete
            failures = self._journal.read(cache.done_flags())
        if not finished:
            with replacing_cache(self.path, copy=True) as file:
                finish(file, failures)
        self._journal.remove()

    def close(self) -> None:
        """Stop writing; what was written stays."""
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
    """Create a cache, or go on with the one there: resume embeddings, add new ones, refresh the clips.

    Args:
        path: of the cache.
        clips: of the manifest.
        infos: the embeddings asked for; fingerprints are set here. Others in the cache stay as they are.
        resume: insist that the cache is there.
        overwrite: start anew.

    Raises:
        ValueError: the cache was made from other clips or with other encoders; the message says what differs.
        FileNotFoundError: `resume` and nothing to resume.
        RuntimeError: another extraction is writing it.
    """
    path = Path(path).resolve()
    if resume and not path.is_file():
        raise FileNotFoundError(
            f"--resume must be given for a cache that is there, got {str(path)!r}. Leave --resume out to begin it."
        )
    asked = {info.name: fingerprinted(info, clips.table) for info in infos}
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock(path):
        remove_leftovers(path)
        if overwrite:
            check_replaceable(path)
        if overwrite or not path.exists():
            with replacing_cache(path, copy=False) as file:
                create(file, clips, list(asked.values()))
        else:
            _go_on(path, clips, asked)
        writer = CacheWriter(path, asked)
        try:
            yield writer
        finally:
            writer.close()


def check_replaceable(path: Path) -> None:
    """Let a cache be replaced, also a damaged one, and nothing else.

    Raises:
        ValueError: there is another kind of file.
    """
    if path.exists() and not h5py.is_hdf5(path):
        raise ValueError(
            f"--out must be a cache or a new file, got {str(path)!r}, which is neither. Choose another name."
        )


def save(path: Path, clips: ClipTable, embeddings: Sequence[tuple[EmbeddingInfo, Embedded]]) -> None:
    """Write a complete cache at once from embeddings in memory; it replaces what is there."""
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    check_replaceable(path)
    with lock(path):
        remove_leftovers(path)
        Journal(path).remove()
        with replacing_cache(path, copy=False) as file:
            create(file, clips, [fingerprinted(info, clips.table) for info, _ in embeddings])
            for info, rows in embeddings:
                file["embeddings"][info.name][...] = rows.values
                file["present"][info.name][...] = rows.present
                file["done"][info.name][...] = True
                if info.max_steps is not None and rows.num_steps is not None:
                    file["num_steps"][info.name][...] = rows.num_steps
            finish(file, [failure for _, rows in embeddings for failure in rows.failures])


def fingerprinted(info: EmbeddingInfo, clips: pd.DataFrame) -> EmbeddingInfo:
    """The same with its fingerprint over these clips and the version of this code."""
    return replace(info, fingerprint=fingerprint(info, clips), code_version=__version__)


def _go_on(path: Path, clips: ClipTable, asked: dict[str, EmbeddingInfo]) -> None:
    with Cache.open(path) as cache:
        there = {name: cache.info(name) for name in cache.names}
        table = cache.table()
        same_clips = (cache.dataset, cache.root, cache.manifest_sha256) == _identity(clips) and table.equals(
            clips.table
        )
    _refuse_other_clips(path, there, table, clips.table)
    for name, info in asked.items():
        if name in there:
            _refuse_other_encoder(there[name], info)
    new = [info for name, info in asked.items() if name not in there]
    if new or not same_clips:
        with replacing_cache(path, copy=True) as file:
            if not same_clips:
                write_clips(file, clips)
            for info in new:
                add_embedding(file, info, len(clips.table))


def _refuse_other_clips(path: Path, there: dict[str, EmbeddingInfo], old: pd.DataFrame, new: pd.DataFrame) -> None:
    for info in there.values():
        difference = clip_difference(old, new, info.modality)
        if difference is not None:
            raise ValueError(
                f"--out must be a cache of the same clips, got {str(path)!r}, which {difference}. "
                "Pass --overwrite to start anew, or another --out."
            )


def _refuse_other_encoder(old: EmbeddingInfo, new: EmbeddingInfo) -> None:
    found = differences(old, new)
    if found:
        was = ", ".join(f"{what} {before}" for what, before, _ in found)
        got = ", ".join(f"{what} {after}" for what, _, after in found) if len(found) > 1 else found[0][2]
        raise ValueError(
            f"--encoder {new.name} must be the one the cache was made with ({was}), got {got}. "
            "Pass --overwrite to start anew, another name to add it, or another --out."
        )


def _identity(clips: ClipTable) -> tuple[str, str, str]:
    return clips.dataset, clips.root, clips.manifest_sha256


@dataclass(frozen=True)
class _Slot:
    """Where the rows of a dataset are in the file."""

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
