"""Describe a cache, and check that it still is what was written."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from amr.data_manifests.schema import continuous_numbers, counted
from amr.extract.cache.arrays import data_sha256, finite_rows, num_texts, read_text, read_text_attribute, row_blocks
from amr.extract.cache.damage import DamagedCache, Finding, brief, open_file
from amr.extract.cache.fingerprint import fingerprint
from amr.extract.cache.journal import Journal
from amr.extract.cache.reader import FAILURE_COLUMNS, FORMAT, VERSIONS, Cache
from amr.extract.cache.seal import FACES, FIXED_COLUMNS, GROUPS, check_layout, check_seal, check_shapes


def inspect(path: Path) -> dict[str, Any]:
    """Describe a cache: clips, splits, classes, columns, embeddings and failures.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not a cache.
        RuntimeError: The file is too damaged to be read.
    """
    with Cache.open(path) as cache:
        clips, failures = cache.table(), cache.failures
        in_journal = [] if cache.complete else Journal(cache.path.resolve()).read(cache.without_values())
        return {
            "cache": str(path),
            "dataset": cache.dataset,
            **({"shard": cache.shard} if cache.shard else {}),
            "complete": cache.complete,
            "created_by": cache.created_by,
            "root": cache.root,
            "manifest_sha256": cache.manifest_sha256,
            "clips": len(clips),
            "splits": value_counts(clips["split"]),
            **(label_counts(clips["label"]) if "label" in clips else {"classes": {}}),
            "groups": int(clips.loc[clips["group"] != "", "group"].nunique()),
            "columns": [name for name in clips if name not in FIXED_COLUMNS],
            "embeddings": {name: _summary(cache, name) for name in cache.names},
            "failed": len(failures) + len(in_journal),
            "failures": [
                *failures.to_dict("records"),
                *({"id": row.id, "modality": row.modality, "reason": row.reason} for row in in_journal),
            ],
        }


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
    problems: list[str] = []
    result: dict[str, Any] = {"complete": False, "clips": 0, "embedded": {}}
    try:
        file = open_file(path)
    except (ValueError, DamagedCache) as error:
        problems.append("not an HDF5 file" if isinstance(error, ValueError) else _cannot_read(error.__cause__ or error))
        return {"cache": str(path), "ok": False, **result, "problems": problems}
    with file:
        try:
            version = _version(file)
            if version not in VERSIONS:
                problems.append(f"not a cache of format {FORMAT} {' or '.join(map(str, VERSIONS))}")
            else:
                check_layout(file, path.stat().st_size)  # before anything is read that may lead to another file
                _check_all(file, path, version, problems, result)
        except Exception as error:  # h5py raises many kinds of errors for a damaged file, and each is a finding
            problems.append(_cannot_read(error))
    return {"cache": str(path), "ok": not problems, **result, "problems": problems}


def _version(file: h5py.File) -> int | None:
    """Version of the format; None for another one."""
    if "format" not in file.attrs or read_text_attribute(file, "format") != FORMAT:
        return None
    return int(file.attrs["version"])


def _check_all(file: h5py.File, path: Path, version: int, problems: list[str], result: dict[str, Any]) -> None:
    """Collect problems and counts of all sections. What cannot be read is a problem of its section alone."""
    result["complete"] = bool(file.attrs["complete"])
    result["clips"] = num_texts(file["clips/id"])
    if version > 1:
        _collect(problems, "structure", _of_check(check_seal, file))
    _collect(problems, "shapes", _of_check(check_shapes, file))
    can_be_opened = not problems
    _collect(problems, "tables", _check_tables(file))
    if not len(file["embeddings"]):
        problems.append("embeddings: there are none")
    for name in file["embeddings"]:
        _collect(problems, name, _check_embedding(file, name))
        result["embedded"][name] = int(np.count_nonzero(file["present"][name][:]))
    if can_be_opened:
        _collect(problems, "fingerprints", _check_with_reader(path))


def _of_check(check: Callable[[h5py.File], None], file: h5py.File) -> Iterator[str]:
    check(file)
    yield from ()


def _collect(problems: list[str], section: str, found: Iterator[str]) -> None:
    """Collect the problems of a section. If it cannot be read, that is one, and the next section is still checked."""
    try:
        problems.extend(found)
    except Finding as error:
        problems.append(str(error))
    except Exception as error:
        problems.append(f"{section}: {_cannot_read(error)}")


def _cannot_read(error: BaseException) -> str:
    return f"cannot be read: {brief(error)}"


def _check_tables(file: h5py.File) -> Iterator[str]:
    columns = {name: file["clips"][name] for name in FIXED_COLUMNS}
    columns |= {f"columns/{name}": column for name, column in file["clips/columns"].items()}
    problems: list[str] = []
    for name, column in columns.items():
        _collect(problems, f"clips/{name}", _of_text(column))
    for name in FAILURE_COLUMNS:
        _collect(problems, f"failures/{name}", _of_text(file["failures"][name]))
    yield from problems
    if not problems:
        ids, failed = read_text(file["clips/id"]), read_text(file["failures/id"])
        if len(set(ids)) != len(ids):
            yield "clips/id: not unique"
        unknown = set(failed) - set(ids)
        if unknown:
            yield f"failures: {len(unknown)} ids that are not clips, such as {sorted(unknown)[0]!r}"


def _of_text(column: h5py.Dataset | h5py.Group) -> Iterator[str]:
    read_text(column)
    yield from ()


def _check_embedding(file: h5py.File, name: str) -> Iterator[str]:
    data = file["embeddings"][name]
    described = read_text_attribute(data, "dtype")
    if str(data.dtype) != described:
        yield f"{name}: is {data.dtype}, described as {described}"
    present, done = file["present"][name][:].astype(bool), file["done"][name][:].astype(bool)
    if bool(file.attrs["complete"]) and not done.all():
        clips = counted(int((~done).sum()), "clip is", "clips are")
        yield f"{name}: {clips} not done in a cache that says it is complete"
    num_steps = file["num_steps"][name][:] if data.ndim == 3 else None
    if num_steps is not None:
        wrong = (num_steps < 0) | (num_steps > data.shape[1]) | (done & (present != (num_steps > 0)))
        if wrong.any():
            yield f"{name}: number of steps out of range in {counted(int(wrong.sum()), 'clip', 'clips')}"
    groups = [group for group in GROUPS if group != "num_steps" or num_steps is not None]
    if name in file.get(FACES, {}):
        groups.append(FACES)
        faces = file[FACES][name][:]
        wrong = done & ~((faces >= 0) & (faces <= np.where(present, 1, 0)))
        if wrong.any():
            yield f"{name}: fraction of frames with a face out of range in {counted(int(wrong.sum()), 'clip', 'clips')}"
    finished = [group for group in groups if "sha256" in file[group][name].attrs]
    if not finished and bool(file.attrs["complete"]):
        yield f"{name}: embeddings has no checksum in a cache that says it is complete"
    digest = hashlib.sha256()
    yield from _check_values(data, name, present & done, ~present & done, num_steps, digest)
    for group in finished:
        found = digest.hexdigest() if group == "embeddings" else data_sha256(file[group][name])
        if read_text_attribute(file[group][name], "sha256") != found:
            yield f"{name}: checksum of {group} differs, the data was changed or damaged"


def _check_values(
    data: h5py.Dataset,
    name: str,
    present: np.ndarray,
    absent: np.ndarray,
    num_steps: np.ndarray | None,
    digest: hashlib._Hash,
) -> Iterator[str]:
    """Check that values are finite if present, and 0 if absent or past the last step. Adds them to the digest."""
    not_finite = not_zero = 0
    for rows in row_blocks(data.shape, data.dtype):
        values = np.ascontiguousarray(data[rows])
        digest.update(values.data)
        not_finite += int((~finite_rows(values) & present[rows]).sum())
        nonzero = np.zeros(len(values), bool)
        if absent[rows].any():
            nonzero = values.reshape(len(values), -1).any(axis=1) & absent[rows]
        if num_steps is not None:
            beyond = np.arange(data.shape[1]) >= num_steps[rows, None]
            nonzero |= (values.any(axis=-1) & beyond).any(axis=1) & present[rows]
        not_zero += int(nonzero.sum())
    if not_finite:
        yield f"{name}: {counted(not_finite, 'clip has', 'clips have')} values that are not finite"
    if not_zero:
        yield f"{name}: {counted(not_zero, 'clip has', 'clips have')} values that should be 0"


def _check_with_reader(path: Path) -> Iterator[str]:
    """Check what the reader puts together: fingerprints, and rows of unfinished embeddings."""
    with Cache.open(path) as cache:
        clips = cache.table()
        for name in cache.names:
            info = cache.info(name)
            if fingerprint(info, clips) != info.fingerprint:
                yield f"{name}: fingerprint does not match its clips and encoder"
            num_damaged = 0 if cache.complete else sum(int(block.damaged.sum()) for block in cache.blocks(name))
            if num_damaged:
                yield f"{name}: checksum of {counted(num_damaged, 'row', 'rows')} differs, the data was damaged"


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
        **({"without_face": cache.num_without_face(name)} if info.has_faces else {}),
        "random_weights": info.random_weights,
        "weights_sha256": info.weights_sha256,
        "preprocessing": info.preprocessing,
        "fingerprint": info.fingerprint,
        "code_version": info.code_version,
    }


def label_counts(column: pd.Series) -> dict[str, Any]:
    """Clips of each class, or the range of labels that are continuous numbers and thus not classes.

    >>> label_counts(pd.Series(["a", "b", "a"]))
    {'classes': {'a': 2, 'b': 1}}
    >>> label_counts(pd.Series(["0.5", "-2.25", "1"]))
    {'classes': {}, 'numbers': {'distinct': 3, 'min': -2.25, 'max': 1.0}}
    """
    numbers = continuous_numbers(column)
    if not numbers:
        return {"classes": value_counts(column)}
    return {"classes": {}, "numbers": {"distinct": len(numbers), "min": numbers[0], "max": numbers[-1]}}


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
