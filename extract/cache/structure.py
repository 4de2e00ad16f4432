"""Structure of a cache file. It never changes: a new file is written, which then replaces it."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from amr.common.files import check_writable, partial_path
from amr.common.version import __version__
from amr.common.workspace import caches_dir, place
from amr.extract.cache.arrays import Rows, escape, read_text, row_crc32, write_attributes, write_numbers, write_text
from amr.extract.cache.journal import Journal
from amr.extract.cache.reader import FAILURE_COLUMNS, FORMAT, UNFINISHED, VERSION, Cache, EmbeddingInfo
from amr.extract.cache.seal import FACES, FIXED_COLUMNS, GROUPS, seal


@dataclass(frozen=True)
class ClipTable:
    """Clips of a cache.

    Attributes:
        dataset: Name of the dataset.
        root: Folder that paths are relative to; "" if there are no paths.
        manifest_sha256: Checksum of the manifest.
        table: One row per clip, all columns text. `id` is required; path, split and group are "" if absent.
        shard: Part of the manifest that the table holds, such as "2/4", which may have no clips; "" for all of it.
    """

    dataset: str
    root: str
    manifest_sha256: str
    table: pd.DataFrame
    shard: str = ""

    def __post_init__(self) -> None:
        if "id" not in self.table or (len(self.table) == 0 and not self.shard):
            raise ValueError(
                f"clips must have an id column and at least one row, got {len(self.table)} rows of {list(self.table)}. "
                "Name at least one clip."
            )
        rest = [name for name in self.table if name not in FIXED_COLUMNS]
        table = self.table.reindex(columns=[*FIXED_COLUMNS, *rest], fill_value="").astype(str)
        object.__setattr__(self, "table", table.reset_index(drop=True))


def cache_path(out: str) -> Path:
    """Path of a cache that --out names: a path or an .h5 file as it is, any other name in the workspace's caches/."""
    return Path(out) if out.endswith(".h5") else place(out, caches_dir(), ".h5")


def check_out(path: Path) -> None:
    """Refuse a path that no cache can be written to, before any work is done.

    Raises:
        ValueError: It is a folder, or its folder cannot be written to.
    """
    if os.path.isdir(path):
        raise ValueError(f"--out must be a file, got the folder {str(path)!r}. Pass --out {path / 'NAME.h5'}.")
    check_writable(path.resolve().parent, "--out", "Pass --out with a cache elsewhere.")


def notes_on_name(path: Path) -> list[str]:
    """Note on a name by which a cache will not be found."""
    if path.suffix == ".h5":
        return []
    return [f"--out {path} does not end with .h5: the cache is found by its path only, not by its name"]


def clips_of(cache: Cache) -> ClipTable:
    """Clips of an existing cache."""
    return ClipTable(cache.dataset, cache.root, cache.manifest_sha256, cache.table(), cache.shard)


def begin(
    file: h5py.File, clips: ClipTable, *, created_by: str = f"amr {__version__}", is_ordered: bool = True
) -> None:
    """Write the clips and empty groups for embeddings into a new file."""
    # first, so that they are near the front of the file: by them a damaged cache is known as one of ours
    write_attributes(file, format=FORMAT, version=VERSION, created_by=created_by)
    write_attributes(file, dataset=clips.dataset, root=clips.root, manifest_sha256=clips.manifest_sha256)
    if clips.shard:
        write_attributes(file, shard=clips.shard)
    for name in (*GROUPS, UNFINISHED):
        file.create_group(name, track_order=True)
    write_attributes(file["embeddings"], ordered=is_ordered)
    group = file.create_group("clips")
    columns = group.create_group("columns", track_order=True)
    for name in map(str, clips.table):
        fixed = name in FIXED_COLUMNS
        write_text(group if fixed else columns, name if fixed else escape(name), clips.table[name].tolist())


def end(file: h5py.File, failures: Iterable[tuple[str, ...]]) -> None:
    """Write the failures, and whether all embeddings are finished."""
    order = {id_: row for row, id_ in enumerate(read_text(file["clips/id"]))}
    known = dict.fromkeys(row for row in failures if row[0] in order)
    rows = sorted(known, key=lambda row: (order[row[0]], row[1:]))
    group = file.create_group("failures")
    for i, name in enumerate(FAILURE_COLUMNS):
        write_text(group, name, [row[i] for row in rows])
    write_attributes(file, complete=len(file[UNFINISHED]) == 0)


def allocate_embedding(file: h5py.File, info: EmbeddingInfo, num_clips: int) -> None:
    """Add an embedding in which no clip is done."""
    _allocate(file["embeddings"], info.name, (num_clips, *info.row_shape), np.dtype(info.dtype))
    _allocate(file["present"], info.name, (num_clips,), np.dtype(bool))
    _allocate(file["done"], info.name, (num_clips,), np.dtype(bool))
    if info.max_steps is not None:
        _allocate(file["num_steps"], info.name, (num_clips,), np.dtype(np.int32))
    if info.has_faces:
        _allocate(file.require_group(FACES), info.name, (num_clips,), np.dtype(np.float32))
    _allocate(file[UNFINISHED], info.name, (num_clips,), np.dtype(np.uint32))
    _describe(file, info)


def write_embedding(file: h5py.File, info: EmbeddingInfo, num_clips: int, blocks: Iterable[Rows]) -> None:
    """Add a finished embedding, whose rows come in blocks."""
    small: list[Rows] = []

    def values() -> Iterator[np.ndarray]:
        for block in blocks:
            small.append(replace(block, values=np.empty(0)))
            yield block.values

    write_numbers(file["embeddings"], info.name, (num_clips, *info.row_shape), np.dtype(info.dtype), values())
    parts = {"present": np.dtype(bool), "done": np.dtype(bool), "num_steps": np.dtype(np.int32)}
    if info.max_steps is None:
        del parts["num_steps"]
    if info.has_faces:
        parts[FACES] = np.dtype(np.float32)
    for group, dtype in parts.items():
        write_numbers(
            file.require_group(group), info.name, (num_clips,), dtype, (getattr(block, group) for block in small)
        )
    _describe(file, info)


def carry_embedding(cache: Cache, file: h5py.File, name: str, again: np.ndarray | None = None) -> np.ndarray:
    """Add an embedding of another cache: as it is, or finished if it has become so.

    Rows of an unfinished one that differ from their checksums are no longer done.

    Args:
        cache: Cache that has it.
        file: File of the new cache.
        name: Name of the embedding.
        again: Mask of the clips that are no longer done, `(clips,)`; None for none.

    Returns:
        Mask of the clips that are done, `(clips,)`.
    """
    done, info, num_clips = cache.done(name), cache.info(name), cache.num_clips
    if again is None and cache.copy_embedding(name, file):
        return done
    if again is not None:
        done &= ~again
    for block in cache.blocks(name):
        done[block.start : block.start + len(block.done)] &= ~block.damaged
    if done.all():
        write_embedding(file, info, num_clips, cache.blocks(name))
        return done
    allocate_embedding(file, info, num_clips)
    for block in cache.blocks(name):
        rows = slice(block.start, block.start + len(block.done))
        file["embeddings"][name][rows] = block.values
        file["present"][name][rows] = block.present
        file["done"][name][rows] = done[rows]
        if block.num_steps is not None:
            file["num_steps"][name][rows] = block.num_steps
        if block.faces is not None:
            file[FACES][name][rows] = block.faces
        file[UNFINISHED][name][rows] = row_crc32(block.values, block.present, block.num_steps, block.faces)
    return done


def _describe(file: h5py.File, info: EmbeddingInfo) -> None:
    write_attributes(
        file["embeddings"][info.name],
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
    """Create a dataset whose zeros are on disk at once, so that later writes need no space and change no metadata."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    group.create_dataset(name, shape=shape, dtype=dtype, dcpl=plan, fill_time="alloc")


@contextmanager
def replacing_cache(path: Path) -> Iterator[h5py.File]:
    """Open a new file for writing. At the end of the block it is sealed and replaces `path` atomically.

    Raises:
        OSError: The disk is full. `path` is as before.
    """
    temporary = temporary_path(path)
    try:
        with _Output(temporary) as output:
            try:
                with h5py.File(output, "w") as file:
                    yield file
                    seal(file)
            finally:
                output.raise_failure()
            os.fsync(output.fileno())
        os.replace(temporary, path)
        sync_if_allowed(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


class _Output(io.FileIO):
    """File for HDF5, which cannot close a file on a full disk and crashes later: it is told that all is well.

    The first failure of a write is kept, and everything that follows is thrown away.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.failure: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all bytes."""
        view = memoryview(data).cast("B")
        start = 0
        while self.failure is None and start < len(view):
            try:
                start += super().write(view[start:])
            except OSError as error:
                self.failure = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Change the size of the file."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size or 0

    def raise_failure(self) -> None:
        """Raise the first failure, if there was one."""
        if self.failure is not None:
            raise OSError(self.failure.errno, self.failure.strerror, str(self.name)) from self.failure


def temporary_path(path: Path) -> Path:
    """Path of the file that will replace `path`."""
    return path.with_name(f"{path.name}.tmp")


def remove_leftovers(path: Path) -> None:
    """Remove unfinished files that a kill left."""
    temporary_path(path).unlink(missing_ok=True)
    partial_path(Journal(path).path).unlink(missing_ok=True)


def sync_if_allowed(path: Path) -> None:
    """Flush a file or a folder to disk."""
    with suppress(PermissionError):  # some network folders cannot be opened
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
