"""Writing a cache so that a kill at any moment leaves it readable (docs/decisions/0006-killed-writers.md).

Every change of structure is made on a copy that replaces the file; in between, batches overwrite bytes of
preallocated rows without HDF5, so that its metadata never changes while extracting.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from amr.extract.cache.fingerprint import clip_difference, differences, fingerprint
from amr.extract.cache.journal import Failure, Journal
from amr.extract.cache.lock import lock
from amr.extract.cache.reader import (
    FAILURE_COLUMNS,
    FIXED_COLUMNS,
    FORMAT,
    VERSION,
    Cache,
    EmbeddingInfo,
    data_sha256,
    escape,
    write_text,
)


@dataclass(frozen=True)
class ClipTable:
    """The clips of a cache.

    Attributes:
        dataset: its name.
        root: the folder that paths start from, "" where there are none.
        manifest_sha256: of the manifest.
        table: one row a clip, every column text; id must be there, path, split and group are "" where absent.
    """

    dataset: str
    root: str
    manifest_sha256: str
    table: pd.DataFrame

    def __post_init__(self) -> None:
        if "id" not in self.table or len(self.table) == 0:
            raise ValueError(f"clips must have an id column and a row, got {list(self.table)}. Name some clips.")
        rest = [name for name in self.table if name not in FIXED_COLUMNS]
        table = self.table.reindex(columns=[*FIXED_COLUMNS, *rest], fill_value="").astype(str)
        object.__setattr__(self, "table", table.reset_index(drop=True))


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
            with _replacing(self.path, copy=True) as file:
                _finish(file, failures)
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
        _remove_leftovers(path)
        if overwrite:
            check_replaceable(path)
        if overwrite or not path.exists():
            with _replacing(path, copy=False) as file:
                _create(file, clips, list(asked.values()))
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
        _remove_leftovers(path)
        Journal(path).remove()
        with _replacing(path, copy=False) as file:
            _create(file, clips, [fingerprinted(info, clips.table) for info, _ in embeddings])
            for info, rows in embeddings:
                file["embeddings"][info.name][...] = rows.values
                file["present"][info.name][...] = rows.present
                file["done"][info.name][...] = True
                if info.max_steps is not None and rows.num_steps is not None:
                    file["num_steps"][info.name][...] = rows.num_steps
            _finish(file, [failure for _, rows in embeddings for failure in rows.failures])


def fingerprinted(info: EmbeddingInfo, clips: pd.DataFrame) -> EmbeddingInfo:
    """The same with its fingerprint over these clips and the version of this code."""
    return replace(info, fingerprint=fingerprint(info, clips), code_version=version("amr"))


def _go_on(path: Path, clips: ClipTable, asked: dict[str, EmbeddingInfo]) -> None:
    with Cache.open(path) as cache:
        there = {name: cache.info(name) for name in cache.names}
        table = cache.clips
        same_clips = (cache.dataset, cache.root, cache.manifest_sha256) == _identity(clips) and table.equals(
            clips.table
        )
    _refuse_other_clips(path, there, table, clips.table)
    for name, info in asked.items():
        if name in there:
            _refuse_other_encoder(there[name], info)
    new = [info for name, info in asked.items() if name not in there]
    if new or not same_clips:
        with _replacing(path, copy=True) as file:
            if not same_clips:
                _write_clips(file, clips)
            for info in new:
                _add_embedding(file, info, len(clips.table))


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


def _create(file: h5py.File, clips: ClipTable, infos: Sequence[EmbeddingInfo]) -> None:
    file.attrs.update(format=FORMAT, version=VERSION, complete=False, created_by=f"amr {version('amr')}")
    for group in ("embeddings", "present", "done", "num_steps"):
        file.create_group(group, track_order=True)
    _write_clips(file, clips)
    _write_failures(file, [])
    for info in infos:
        _add_embedding(file, info, len(clips.table))


def _write_clips(file: h5py.File, clips: ClipTable) -> None:
    if "clips" in file:
        del file["clips"]
    file.attrs.update(dataset=clips.dataset, root=clips.root, manifest_sha256=clips.manifest_sha256)
    group = file.create_group("clips")
    columns = group.create_group("columns", track_order=True)
    for name in map(str, clips.table):
        fixed = name in FIXED_COLUMNS
        write_text(group if fixed else columns, name if fixed else escape(name), clips.table[name])


def _add_embedding(file: h5py.File, info: EmbeddingInfo, num_clips: int) -> None:
    file.attrs["complete"] = False
    _allocate(file["embeddings"], info.name, (num_clips, *info.row_shape), np.dtype(info.dtype))
    _allocate(file["present"], info.name, (num_clips,), np.dtype(bool))
    _allocate(file["done"], info.name, (num_clips,), np.dtype(bool))
    if info.max_steps is not None:
        _allocate(file["num_steps"], info.name, (num_clips,), np.dtype(np.int32))
    file["embeddings"][info.name].attrs.update(
        modality=info.modality,
        encoder=info.encoder,
        weights_sha256=info.weights_sha256,
        preprocessing=json.dumps(info.preprocessing, sort_keys=True),
        dtype=info.dtype,
        random_weights=info.random_weights,
        fingerprint=info.fingerprint,
        code_version=info.code_version,
    )


def _allocate(group: h5py.Group, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """A dataset whose zeros are on disk from the start: no full disk and no change of metadata later."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    group.create_dataset(name, shape=shape, dtype=dtype, dcpl=plan, fill_time="alloc")


def _write_failures(file: h5py.File, rows: Sequence[tuple[str, ...]]) -> None:
    if "failures" in file:
        del file["failures"]
    group = file.create_group("failures")
    for i, name in enumerate(FAILURE_COLUMNS):
        write_text(group, name, [row[i] for row in rows])


def _finish(file: h5py.File, failures: Sequence[Failure]) -> None:
    order = {id_: row for row, id_ in enumerate(file["clips/id"].asstr()[:])}
    old = zip(*(file["failures"][name].asstr()[:] for name in FAILURE_COLUMNS), strict=True)
    rows = dict.fromkeys([*old, *((failure.id, failure.modality, failure.reason) for failure in failures)])
    _write_failures(file, sorted(rows, key=lambda row: (order[row[0]], row[1:])))
    finished = {name: bool(file["done"][name][:].all()) for name in file["done"]}
    for name, is_finished in finished.items():
        if is_finished:
            for group in ("embeddings", "present", "num_steps"):
                if name in file[group]:
                    file[group][name].attrs["sha256"] = data_sha256(file[group][name])
    file.attrs["complete"] = all(finished.values())


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


@contextmanager
def _replacing(path: Path, *, copy: bool) -> Iterator[h5py.File]:
    """A new or copied file to change, which then takes the place of `path` in one step."""
    temporary = _temporary(path)
    try:
        if copy:
            shutil.copyfile(path, temporary)
        with h5py.File(temporary, "r+" if copy else "w") as file:
            yield file
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.tmp")


def _remove_leftovers(path: Path) -> None:
    _temporary(path).unlink(missing_ok=True)
    Path(f"{Journal(path).path}.tmp").unlink(missing_ok=True)


def _sync(path: Path) -> None:
    with suppress(PermissionError):  # some network folders do not let themselves be opened
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
