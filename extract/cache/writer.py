"""Write a cache so that a kill at any moment leaves it readable (docs/decisions/0006-killed-writers.md).

A change of the structure is a new file that replaces the old one. In between, batches overwrite the bytes of
preallocated rows without HDF5, so its metadata never changes during an extraction.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from amr.common.files import check_space
from amr.common.files.lock import lock
from amr.common.version import __version__
from amr.extract.cache.arrays import Rows, read_text_attribute, row_blocks, row_crc32
from amr.extract.cache.extend import ROOM_ADVICE, check_room, extend, notes_on_damage, num_bytes_of, of_table, rewrite
from amr.extract.cache.fingerprint import fingerprint
from amr.extract.cache.journal import Failure, Journal
from amr.extract.cache.reader import FORMAT, UNFINISHED, Cache, EmbeddingInfo
from amr.extract.cache.seal import FACES
from amr.extract.cache.structure import (
    ClipTable,
    allocate_embedding,
    begin,
    clips_of,
    end,
    remove_leftovers,
    replacing_cache,
    write_embedding,
)

FRONT_BYTES = 2**16  # in which a cache says what it is


@dataclass(frozen=True)
class Embedded:
    """Rows of one embedding, for a batch or for all clips.

    Attributes:
        values: Embeddings, `(clips, embed_dim)` or `(clips, steps, embed_dim)`, 0 if not present.
        present: Mask of the clips that were embedded, `(clips,)` bool.
        num_steps: Number of filled steps, `(clips,)`; None for an embedding without steps.
        failures: Failures of these clips.
        faces: Fraction of the frames in which a face was found, `(clips,)`; None if none was looked for.
    """

    values: np.ndarray
    present: np.ndarray
    num_steps: np.ndarray | None = None
    failures: tuple[Failure, ...] = ()
    faces: np.ndarray | None = None

    def cut(self, rows: slice, failures: tuple[Failure, ...] = ()) -> Embedded:
        """Some of the rows, with these failures."""
        steps, faces = (None if each is None else each[rows] for each in (self.num_steps, self.faces))
        return Embedded(self.values[rows], self.present[rows], steps, failures, faces)


def joined(parts: Sequence[Embedded]) -> Embedded:
    """Rows of several batches, in their order."""
    if len(parts) == 1:
        return parts[0]
    steps = [part.num_steps for part in parts if part.num_steps is not None]
    faces = [part.faces for part in parts if part.faces is not None]
    return Embedded(
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.present for part in parts]),
        np.concatenate(steps) if steps else None,
        tuple(failure for part in parts for failure in part.failures),
        np.concatenate(faces) if faces else None,
    )


class CacheWriter:
    """Writer of batches of embeddings, made by `open_writer`.

    Attributes:
        path: Path of the cache.
        infos: Embedding name -> its description.
        notes: What a user should know about the cache.
    """

    def __init__(self, path: Path, infos: dict[str, EmbeddingInfo], notes: Sequence[str] = ()) -> None:
        self.path = path
        self.infos = infos
        self.notes = list(notes)
        self._journal = Journal(path)
        with Cache.open(path) as cache:
            self._journal.compact(cache.without_values())
            self._done = {name: cache.done(name) for name in infos}
            self._places = cache.places(list(infos))
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
        if f"embeddings/{name}" not in self._places:
            raise ValueError(f"{name} must be unfinished to be written, got a finished one. Overwrite the cache.")
        values = np.ascontiguousarray(batch.values, dtype=info.dtype)
        present = np.ascontiguousarray(batch.present, dtype=bool)
        num_steps, faces = _num_steps(info, batch), _faces(info, batch)
        if num_steps is not None:
            self._put(f"num_steps/{name}", start, num_steps)
        if faces is not None:
            self._put(f"{FACES}/{name}", start, faces)
        self._put(f"embeddings/{name}", start, values)
        self._put(f"present/{name}", start, present)
        self._put(f"{UNFINISHED}/{name}", start, row_crc32(values, present, num_steps, faces))
        self._journal.append(info.fingerprint, batch.failures)
        os.fsync(self._descriptor)
        # Last: the mark may be on disk only after everything that it vouches for.
        self._put(f"done/{name}", start, np.ones(rows, dtype=bool))
        self._done[name][start : start + rows] = True

    def finalize(self) -> None:
        """Add failures and checksums, and mark the cache complete if every embedding is done.

        Raises:
            RuntimeError: Rows were damaged since they were written. They are marked as not done.
        """
        os.fsync(self._descriptor)
        with Cache.open(self.path) as cache:
            is_finished = cache.complete and self._is_recorded(cache)
            damaged = {} if is_finished else rewrite(cache, clips_of(cache), journal=self._journal)
        self._journal.remove()
        self.notes += notes_on_damage({name: rows for name, rows in damaged.items() if name not in self.infos})
        if num_damaged := sum(damaged.get(name, 0) for name in self.infos):
            raise RuntimeError(
                f"cache {str(self.path)!r} must be intact, got {num_damaged} rows that changed since they were "
                "written. They are marked as not done: run the same command again to make them anew."
            )

    def _is_recorded(self, cache: Cache) -> bool:
        """Whether the cache has the failures of the journal."""
        recorded = {*cache.failures.itertuples(index=False, name=None)}
        return recorded.issuperset(map(of_table, self._journal.read(cache.without_values())))

    def close(self) -> None:
        """Close the file. What was written stays."""
        os.close(self._descriptor)

    def _put(self, dataset: str, start: int, values: np.ndarray) -> None:
        place = self._places[dataset]
        data = memoryview(values.tobytes())
        offset = place.offset + start * place.row_bytes
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
    again: Mapping[str, np.ndarray] | None = None,
) -> Iterator[CacheWriter]:
    """Create a cache or continue one: resume embeddings, add new ones, refresh the clips.

    Args:
        path: Path of the cache.
        clips: Clips of the manifest.
        infos: Requested embeddings; fingerprints are set here. Others in the cache stay as they are.
        resume: Whether the cache must already exist.
        overwrite: Whether to start over.
        again: Embedding name -> mask of the clips that are tried again if they failed, `(clips,)`.

    Raises:
        ValueError: The cache was made from other clips or with other encoders. The message says what differs.
        FileNotFoundError: `resume` is set and there is no cache.
        RuntimeError: Another extraction is writing the cache.
    """
    path = Path(path).resolve()
    if resume:
        check_resumable(path)
    requested = {info.name: fingerprinted(info, clips.table) for info in infos}
    path.parent.mkdir(parents=True, exist_ok=True)
    damaged: dict[str, int] = {}
    with lock(path):
        remove_leftovers(path)
        if overwrite:
            check_replaceable(path)
        if overwrite or not path.exists():
            check_room(path, clips, list(requested.values()))
            with replacing_cache(path) as file:
                begin(file, clips)
                for info in requested.values():
                    allocate_embedding(file, info, len(clips.table))
                end(file, [])
        else:
            requested, damaged = extend(path, clips, requested, again or {})
        writer = CacheWriter(path, requested, notes_on_damage(damaged))
        try:
            yield writer
        finally:
            writer.close()


def check_resumable(path: Path) -> None:
    """Check that there is a cache.

    Raises:
        FileNotFoundError: There is none.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"--resume must be used with an existing cache, got {str(path)!r}. Leave out --resume to start a new one."
        )


def check_replaceable(path: Path) -> None:
    """Check that `path` may be overwritten: it is a cache, perhaps damaged or unfinished, or does not exist.

    Raises:
        ValueError: It is another kind of file, or an HDF5 file of another program.
    """
    if path.exists() and not _is_cache(path):
        raise ValueError(
            f"--out must be a cache or a new file, got {str(path)!r}, which is neither. Choose another name."
        )


def _is_cache(path: Path) -> bool:
    """Whether a file is a cache: by its format or, if it is too damaged to say, by that word near its front."""
    if not path.is_file():
        return False
    with suppress(Exception), h5py.File(path, "r") as file:  # damaged, or in use
        if "format" in file.attrs:
            return read_text_attribute(file, "format") == FORMAT
    with path.open("rb") as content:
        return FORMAT.encode() + b"\0" in content.read(FRONT_BYTES)


def save(
    path: Path,
    clips: ClipTable,
    embeddings: Sequence[tuple[EmbeddingInfo, Embedded | Iterable[Embedded]]],
    failures: Sequence[Failure] = (),
) -> None:
    """Write a complete cache at once, replacing an existing one.

    Args:
        path: Path of the cache.
        clips: Clips of the cache.
        embeddings: Each embedding with the rows of all clips, or with parts of them in order, written as they come.
        failures: Failures besides those of the rows.
    """
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    check_replaceable(path)
    num_clips = len(clips.table)
    found = [*failures]
    with lock(path):
        remove_leftovers(path)
        check_space(path.parent, num_bytes_of([info for info, _ in embeddings], num_clips), "--out", ROOM_ADVICE)
        with replacing_cache(path) as file:
            begin(file, clips)
            for info, rows in embeddings:
                parts = [rows] if isinstance(rows, Embedded) else rows
                write_embedding(file, fingerprinted(info, clips.table), num_clips, _blocks(info, parts, found))
            end(file, map(of_table, found))
        Journal(path).remove()


def is_saved(path: Path, clips: ClipTable, infos: Sequence[EmbeddingInfo]) -> bool:
    """Whether a cache is complete and has these clips and embeddings, and no others."""
    with Cache.open(path) as cache:
        found = {name: cache.info(name).fingerprint for name in cache.names}
        requested = {info.name: fingerprinted(info, clips.table).fingerprint for info in infos}
        return cache.complete and cache.manifest_sha256 == clips.manifest_sha256 and found == requested


def _blocks(info: EmbeddingInfo, parts: Iterable[Embedded], failures: list[Failure]) -> Iterator[Rows]:
    """Rows of parts in memory in small blocks. Their failures are added to `failures`."""
    start = 0
    for part in parts:
        failures += part.failures
        num_steps, faces = _num_steps(info, part), _faces(info, part)
        for block in row_blocks(part.values.shape, np.dtype(info.dtype)):
            present = np.asarray(part.present[block])
            steps, found = (None if each is None else each[block] for each in (num_steps, faces))
            nothing = np.zeros(len(present), bool)
            yield Rows(start + block.start, part.values[block], present, ~nothing, steps, nothing, found)
        start += len(part.present)


def _num_steps(info: EmbeddingInfo, rows: Embedded) -> np.ndarray | None:
    if info.max_steps is None:
        return None
    steps = np.zeros(len(rows.present)) if rows.num_steps is None else rows.num_steps
    return np.ascontiguousarray(steps, dtype=np.int32)


def _faces(info: EmbeddingInfo, rows: Embedded) -> np.ndarray | None:
    if not info.has_faces:
        return None
    faces = np.zeros(len(rows.present)) if rows.faces is None else rows.faces
    return np.ascontiguousarray(faces, dtype=np.float32)


def fingerprinted(info: EmbeddingInfo, clips: pd.DataFrame) -> EmbeddingInfo:
    """Copy of `info` with its fingerprint over these clips, and the version of this code if it has none."""
    return replace(info, fingerprint=fingerprint(info, clips), code_version=info.code_version or __version__)
