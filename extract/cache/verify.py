"""Describe a cache, and check that it still is what was written."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from amr.data_manifests.schema import counted
from amr.extract.cache.fingerprint import fingerprint
from amr.extract.cache.journal import Journal
from amr.extract.cache.reader import (
    FAILURE_COLUMNS,
    FIXED_COLUMNS,
    FORMAT,
    VERSION,
    Cache,
    check_unlocked,
    data_sha256,
    read_text,
    row_blocks,
    text_sha256,
)


def inspect(path: Path) -> dict[str, Any]:
    """Describe a cache: clips, splits, classes, columns, embeddings and failures.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not a cache.
        RuntimeError: The file is too damaged to be read.
    """
    with Cache.open(path) as cache:
        try:
            clips = cache.table()
            in_journal = [] if cache.complete else Journal(cache.path.resolve()).read(cache.done_flags())
            return {
                "cache": str(path),
                "dataset": cache.dataset,
                "complete": cache.complete,
                "created_by": cache.created_by,
                "root": cache.root,
                "manifest_sha256": cache.manifest_sha256,
                "clips": len(clips),
                "splits": value_counts(clips["split"]),
                "classes": value_counts(clips["label"]) if "label" in clips else {},
                "groups": int(clips.loc[clips["group"] != "", "group"].nunique()),
                "columns": [name for name in clips if name not in FIXED_COLUMNS],
                "embeddings": {name: _summary(cache, name) for name in cache.names},
                "failed": len(cache.failures) + len(in_journal),
                "failures": [
                    *cache.failures.to_dict("records"),
                    *({"id": row.id, "modality": row.modality, "reason": row.reason} for row in in_journal),
                ],
            }
        except (KeyError, OSError, RuntimeError, TypeError) as error:
            raise RuntimeError(
                f"cache {str(path)!r} must be intact, got a damaged file ({_brief(error)}). "
                "See amr verify, or extract or import it again with --overwrite."
            ) from error


def verify(path: Path) -> dict[str, Any]:
    """Check a cache: shapes, checksums, finite values, counts, fingerprints.

    Returns:
        `{"cache", "ok", "complete", "clips", "embedded": {name: clips}, "problems": [text]}`. A damaged file gives
        problems, not an exception.

    Raises:
        FileNotFoundError: The file does not exist.
        RuntimeError: The file is in use.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"cache must be a file, got {str(path)!r}. Make one with amr extract or amr import.")
    problems: list[str] = []
    result: dict[str, Any] = {"complete": False, "clips": 0, "embedded": {}}
    try:
        with h5py.File(path, "r") as file:
            if (file.attrs.get("format"), file.attrs.get("version")) != (FORMAT, VERSION):
                problems.append(f"not a cache of format {FORMAT} {VERSION}")
            else:
                result["complete"] = bool(file.attrs["complete"])
                result["clips"] = int(file["clips/id"].shape[0])
                _collect(problems, "tables", _check_tables(file))
                for name in file["embeddings"]:
                    _collect(problems, name, _check_embedding(file, name))
                    result["embedded"][name] = int(np.count_nonzero(file["present"][name][:]))
                _collect(problems, "fingerprints", _check_fingerprints(path))
    except Exception as error:  # h5py raises many kinds of errors for a damaged file, and each is a finding
        if isinstance(error, OSError):
            check_unlocked(path, error)
        problems.append(f"cannot be read: {_brief(error)}" if h5py.is_hdf5(path) else "not an HDF5 file")
    return {"cache": str(path), "ok": not problems, **result, "problems": problems}


def _collect(problems: list[str], section: str, found: Iterator[str]) -> None:
    """Collect the problems of a section. If it cannot be read, that is one, and the next section is still checked."""
    try:
        problems.extend(found)
    except Exception as error:
        problems.append(f"{section}: cannot be read: {_brief(error)}")


def _check_tables(file: h5py.File) -> Iterator[str]:
    num_clips = file["clips/id"].shape[0]
    columns = {name: file["clips"][name] for name in FIXED_COLUMNS}
    columns |= {f"columns/{name}": column for name, column in file["clips/columns"].items()}
    for name, column in columns.items():
        if column.shape != (num_clips,):
            yield f"clips/{name}: {column.shape[0]} rows for {num_clips} clips"
        if text_sha256(read_text(column)) != column.attrs["sha256"]:
            yield f"clips/{name}: checksum differs, the text was changed or damaged"
    ids = read_text(file["clips/id"])
    if len(set(ids)) != len(ids):
        yield "clips/id: not unique"
    for name in FAILURE_COLUMNS:
        if text_sha256(read_text(file["failures"][name])) != file["failures"][name].attrs["sha256"]:
            yield f"failures/{name}: checksum differs, the text was changed or damaged"
    unknown = set(read_text(file["failures/id"])) - set(ids)
    if unknown:
        yield f"failures: {len(unknown)} ids that are not clips, such as {sorted(unknown)[0]!r}"


def _check_embedding(file: h5py.File, name: str) -> Iterator[str]:
    num_clips = file["clips/id"].shape[0]
    data = file["embeddings"][name]
    for group in ("embeddings", "present", "done", "num_steps"):
        if name in file[group] and file[group][name].shape[0] != num_clips:
            yield f"{name}: {group} has {file[group][name].shape[0]} rows for {num_clips} clips"
            return
    if str(data.dtype) != data.attrs["dtype"]:
        yield f"{name}: stored as {data.dtype}, described as {data.attrs['dtype']}"
    present, done = file["present"][name][:].astype(bool), file["done"][name][:].astype(bool)
    if bool(file.attrs["complete"]) and not done.all():
        clips = counted(int((~done).sum()), "clip is", "clips are")
        yield f"{name}: {clips} not done in a cache that says it is complete"
    num_steps = file["num_steps"][name][:] if name in file["num_steps"] else None
    if num_steps is not None:
        wrong = (num_steps < 0) | (num_steps > data.shape[1]) | (done & (present != (num_steps > 0)))
        if wrong.any():
            yield f"{name}: number of steps out of range in {counted(int(wrong.sum()), 'clip', 'clips')}"
    yield from _check_values(data, name, present & done, ~present & done, num_steps)
    if done.all():
        for group in ("embeddings", "present", "num_steps"):
            if name in file[group]:
                stored = file[group][name].attrs.get("sha256")
                if stored is None and bool(file.attrs["complete"]):
                    yield f"{name}: {group} has no checksum in a cache that says it is complete"
                elif stored is not None and stored != data_sha256(file[group][name]):
                    yield f"{name}: checksum of {group} differs, the data was changed or damaged"


def _check_values(
    data: h5py.Dataset, name: str, present: np.ndarray, absent: np.ndarray, num_steps: np.ndarray | None
) -> Iterator[str]:
    """Check that values are finite if present, and 0 if absent or past the last step."""
    not_finite = not_zero = 0
    for rows in row_blocks(data):
        values = data[rows]
        flat = values.reshape(len(values), -1)
        not_finite += int((~np.isfinite(flat).all(axis=1) & present[rows]).sum())
        nonzero = flat.any(axis=1) & absent[rows]
        if num_steps is not None:
            beyond = np.arange(data.shape[1]) >= num_steps[rows, None]
            nonzero |= (values.any(axis=-1) & beyond).any(axis=1) & present[rows]
        not_zero += int(nonzero.sum())
    if not_finite:
        yield f"{name}: {counted(not_finite, 'clip has', 'clips have')} values that are not finite"
    if not_zero:
        yield f"{name}: {counted(not_zero, 'clip has', 'clips have')} values that should be 0"


def _check_fingerprints(path: Path) -> Iterator[str]:
    with Cache.open(path) as cache:
        clips = cache.table()
        for name in cache.names:
            info = cache.info(name)
            if fingerprint(info, clips) != info.fingerprint:
                yield f"{name}: fingerprint does not match its clips and encoder"


def _summary(cache: Cache, name: str) -> dict[str, Any]:
    info = cache.info(name)
    return {
        "modality": info.modality,
        "encoder": info.encoder,
        "embed_dim": info.embed_dim,
        "max_steps": info.max_steps,
        "dtype": info.dtype,
        "present": int(cache.present(name).sum()),
        "done": int(cache.done(name).sum()),
        "random_weights": info.random_weights,
        "weights_sha256": info.weights_sha256,
        "preprocessing": info.preprocessing,
        "fingerprint": info.fingerprint,
        "code_version": info.code_version,
    }


def value_counts(column: pd.Series) -> dict[str, int]:
    """Count of each value, absent ones left out. Numbers come first, in numerical order."""
    counts = Counter(value for value in column if value)
    return {value: counts[value] for value in sorted(counts, key=_number_first)}


def _number_first(text: str) -> tuple[int, float, str]:
    try:
        number = float(text)
    except ValueError:
        return (1, 0.0, text)
    return (1, 0.0, text) if math.isnan(number) else (0, number, text)


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
