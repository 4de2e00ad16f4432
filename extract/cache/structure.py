"""Structure of a cache file. It changes only in a copy, which then replaces the file."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from amr.common.files import check_writable, partial_path
from amr.common.version import __version__
from amr.common.workspace import caches_dir, place
from amr.extract.cache.journal import Failure, Journal
from amr.extract.cache.reader import (
    FAILURE_COLUMNS,
    FIXED_COLUMNS,
    FORMAT,
    VERSION,
    EmbeddingInfo,
    data_sha256,
    escape,
    write_text,
)


@dataclass(frozen=True)
class ClipTable:
    """Clips of a cache.

    Attributes:
        dataset: Name of the dataset.
        root: Folder that paths are relative to; "" if there are no paths.
        manifest_sha256: Checksum of the manifest.
        table: One row per clip, all columns text. `id` is required; path, split and group are "" if absent.
    """

    dataset: str
    root: str
    manifest_sha256: str
    table: pd.DataFrame

    def __post_init__(self) -> None:
        if "id" not in self.table or len(self.table) == 0:
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


def create(file: h5py.File, clips: ClipTable, infos: Sequence[EmbeddingInfo]) -> None:
    """Write a new cache in which no clip is done."""
    file.attrs.update(format=FORMAT, version=VERSION, complete=False, created_by=f"amr {__version__}")
    for group in ("embeddings", "present", "done", "num_steps"):
        file.create_group(group, track_order=True)
    file["embeddings"].attrs["ordered"] = True
    write_clips(file, clips)
    write_failures(file, [])
    for info in infos:
        add_embedding(file, info, len(clips.table))


def write_clips(file: h5py.File, clips: ClipTable) -> None:
    """Write the clip table, replacing an older one."""
    if "clips" in file:
        del file["clips"]
    file.attrs.update(dataset=clips.dataset, root=clips.root, manifest_sha256=clips.manifest_sha256)
    group = file.create_group("clips")
    columns = group.create_group("columns", track_order=True)
    for name in map(str, clips.table):
        fixed = name in FIXED_COLUMNS
        write_text(group if fixed else columns, name if fixed else escape(name), clips.table[name])


def add_embedding(file: h5py.File, info: EmbeddingInfo, num_clips: int) -> None:
    """Add an embedding in which no clip is done."""
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
    """Create a dataset whose zeros are on disk at once, so that later writes need no space and change no metadata."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    group.create_dataset(name, shape=shape, dtype=dtype, dcpl=plan, fill_time="alloc")


def write_failures(file: h5py.File, rows: Sequence[tuple[str, ...]]) -> None:
    """Write rows of (id, modality, reason), replacing older ones."""
    if "failures" in file:
        del file["failures"]
    group = file.create_group("failures")
    for i, name in enumerate(FAILURE_COLUMNS):
        write_text(group, name, [row[i] for row in rows])


def finish(file: h5py.File, failures: Sequence[Failure]) -> None:
    """Add failures, and checksums of finished embeddings. Mark the cache complete if all are finished."""
    order = {id_: row for row, id_ in enumerate(file["clips/id"].asstr()[:])}
    old = zip(*(file["failures"][name].asstr()[:] for name in FAILURE_COLUMNS), strict=True)
    rows = dict.fromkeys([*old, *((failure.id, failure.modality, failure.reason) for failure in failures)])
    write_failures(file, sorted(rows, key=lambda row: (order[row[0]], row[1:])))
    finished = {name: bool(file["done"][name][:].all()) for name in file["done"]}
    for name, is_finished in finished.items():
        if is_finished:
            for group in ("embeddings", "present", "num_steps"):
                if name in file[group]:
                    file[group][name].attrs["sha256"] = data_sha256(file[group][name])
    file.attrs["complete"] = all(finished.values())


@contextmanager
def replacing_cache(path: Path, *, copy: bool) -> Iterator[h5py.File]:
    """Open a new file, or a copy of `path`, for changes. It then replaces `path` atomically."""
    temporary = temporary_path(path)
    try:
        if copy:
            shutil.copyfile(path, temporary)
        with h5py.File(temporary, "r+" if copy else "w") as file:
            yield file
        sync_if_allowed(temporary)
        os.replace(temporary, path)
        sync_if_allowed(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


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
