"""Rows of a file as the rows of an embedding: finite numbers, absent clips, valid steps."""

from __future__ import annotations

import numpy as np

from amr.data_manifests.schema import counted
from amr.extract.cache.writer import Embedded
from amr.extract.imports.sources import Source


def to_embedded(source: Source, dtype: str, lengths: np.ndarray | None = None) -> tuple[Embedded, list[str]]:
    """Convert rows to an embedding; also return notes.

    A row of only NaN is an absent clip, a step of only NaN is no step.

    Args:
        source: Rows, `(clips, dim)` or `(clips, steps, dim)`, in the order of the clips.
        dtype: Type of the stored values.
        lengths: Number of valid steps of each clip, which come first; None if NaN marks the others.

    Raises:
        ValueError: The rows are not numbers of that shape, or not finite.
    """
    values = _to_numbers(source)
    num_steps: np.ndarray | None = None
    notes: list[str] = []
    if values.ndim == 3:
        num_steps, notes = _drop_padding(source, values, lengths)
    elif lengths is not None:
        raise ValueError(
            f"--lengths must be for an embedding with steps, got {source.name} with {values.shape}. Leave it out there."
        )
    inner = tuple(range(1, values.ndim))
    present = ~np.isnan(values).all(axis=inner) if num_steps is None else num_steps > 0
    values[~present] = 0
    with np.errstate(over="ignore"):
        stored = values.astype(dtype)
    _check_finite(source, values, stored, dtype)
    if not present.all():
        rows = counted(int((~present).sum()), "row holds only NaN and counts", "rows hold only NaN and count")
        notes.append(f"{source.name}: {rows} as absent")
    return Embedded(stored, present, num_steps), notes


def _to_numbers(source: Source) -> np.ndarray:
    raw = source.rows.values
    try:
        if raw.dtype == object:
            raw = np.where((raw == "") | (raw == np.array(None)), np.nan, raw)
        values = raw.astype(np.float64) if raw.dtype.kind in "biufOUS" else None
    except (ValueError, TypeError):
        values = None
    if values is None or values.ndim > 3 or values.size == 0:
        raise ValueError(
            f"{source.name} must be numbers, (clips, dim) or (clips, steps, dim), "
            f"got {raw.dtype} {raw.shape} in {source.spec.path.name}. Name a KEY or column of numbers."
        )
    if values.ndim == 1:
        raise ValueError(
            f"{source.name} must be (clips, dim) or (clips, steps, dim), got one number per clip, {values.shape} in "
            f"{source.spec.path.name}. {_advice_for_one_number(source)}"
        )
    return values


def _advice_for_one_number(source: Source) -> str:
    file = source.spec.path.name
    if source.spec.path.suffix.lower() not in (".csv", ".parquet"):
        return "If that number is the whole embedding, save it as x[:, None]."
    if source.rows.column is None:
        return "If that number is the whole embedding, write a header as the first line and name it, FILE:COLUMN."
    return f"If that number is the whole embedding, name its column: {file}:{source.rows.column}."


def _drop_padding(source: Source, values: np.ndarray, lengths: np.ndarray | None) -> tuple[np.ndarray, list[str]]:
    """Move the valid steps of each clip to its front and fill the others with 0, in place; return their number."""
    max_steps = values.shape[1]
    if lengths is not None:
        lengths = np.where(np.isnan(values).all(axis=(1, 2)), 0, lengths)  # an absent clip needs none
        _check_lengths(source, values, lengths)
        values[np.arange(max_steps) >= lengths[:, None]] = 0
        absent = np.isnan(values).all(axis=-1).sum(axis=1) == np.maximum(lengths, 1)
        values[absent] = 0
        return np.where(absent, 0, lengths).astype(np.int32), []
    valid = ~np.isnan(values).all(axis=-1)
    num_steps = valid.sum(axis=1)
    notes = []
    num_padded = int(((num_steps < max_steps) & (num_steps > 0)).sum())
    if num_padded:
        order = np.argsort(~valid, axis=1, kind="stable")
        values[...] = np.take_along_axis(values, order[..., None], axis=1)
        values[np.arange(max_steps) >= num_steps[:, None]] = 0
        notes.append(f"{source.name}: steps of only NaN are left out in {counted(num_padded, 'clip', 'clips')}")
    else:
        ends_in_zeros = int((~values[:, -1].any(axis=-1) & values.any(axis=(1, 2))).sum())
        if ends_in_zeros:
            notes.append(
                f"{source.name}: {counted(ends_in_zeros, 'clip ends', 'clips end')} in steps of zeros, which count as "
                "steps. "
                "If they are padding, pass --lengths FILE with the number of steps of each clip."
            )
    return num_steps.astype(np.int32), notes


def _check_lengths(source: Source, values: np.ndarray, lengths: np.ndarray) -> None:
    wrong = (lengths < 0) | (lengths > values.shape[1]) | (lengths != np.floor(lengths)) | ~np.isfinite(lengths)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"--lengths must be whole numbers from 0 to the {values.shape[1]} steps of {source.name}, got "
            f"{lengths[row]:g} in row {row}. Correct the file, or pass --lengths NAME=FILE for each embedding."
        )


def _check_finite(source: Source, values: np.ndarray, stored: np.ndarray, dtype: str) -> None:
    wrong = np.flatnonzero(~np.isfinite(stored).all(axis=tuple(range(1, stored.ndim))))
    if not len(wrong):
        return
    first = values[wrong[0]]
    nan = np.isnan(first)
    if (nan.any(-1) & ~nan.all(-1)).any():
        advice = f"A {'row' if values.ndim == 2 else 'step'} must be NaN in all dimensions or in none."
    elif nan.any():
        advice = "Correct --lengths, which counts steps of NaN."
    elif np.isfinite(first).all() and dtype == "float16":
        advice = "Pass --dtype float32."
    else:
        advice = "Fill absent rows with NaN."
    where = f"row {wrong[0]}" if len(wrong) == 1 else f"{len(wrong)} rows, first in row {wrong[0]}"
    raise ValueError(
        f"{source.name} must be finite in {dtype}, got other values in {where} of {source.spec.path.name}. {advice}"
    )
