"""Rows of a file as the rows of an embedding: finite numbers, absent clips, valid steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from amr.data_manifests.schema import counted
from amr.extract.cache.writer import Embedded
from amr.extract.imports.sources import Source

# Numbers that are converted at once: a block is small beside the rows, and large beside the cost of a step.
BLOCK_VALUES = 2**20
MAX_ROW_VALUES = 2**25


class Conversion:
    """Conversion of rows to an embedding, a block of clips at a time, so that the rows are in memory only once.

    A row of only NaN is an absent clip, a step of only NaN is no step.

    Args:
        source: Rows, `(rows, dim)` or `(rows, steps, dim)`.
        order: Row of each clip, -1 for none; None if the rows are in the order of the clips.
        dtype: Type of the stored values.
        lengths: Number of valid steps of each clip, which come first; None if NaN marks the others.
        notes: Notes on the rows before the conversion.

    Raises:
        ValueError: The rows are not numbers of that shape.
    """

    def __init__(
        self,
        source: Source,
        order: np.ndarray | None,
        dtype: str,
        lengths: np.ndarray | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        _check_shape(source)
        self._source = source
        self._order = order
        self._dtype = dtype
        self._lengths = lengths
        self._notes = notes
        self.num_clips = len(source.rows) if order is None else len(order)
        self.row_shape: tuple[int, ...] = source.rows.values.shape[1:]
        if lengths is not None and len(self.row_shape) != 2:
            raise ValueError(
                f"--lengths must be for an embedding with steps, got {source.name} with {source.rows.values.shape}. "
                "Leave it out there."
            )
        self.num_present = 0
        self._num_padded = 0
        self._num_ending_in_zeros = 0

    def blocks(self) -> Iterator[Embedded]:
        """Yield the rows of all clips, in parts.

        Raises:
            ValueError: They are not finite, or not numbers.
        """
        step = max(1, BLOCK_VALUES // int(np.prod(self.row_shape)))
        wrong: list[int] = []
        first_wrong = np.empty(0)
        for start in range(0, self.num_clips, step):
            values = self._numbers(slice(start, start + step))
            num_steps = self._arrange(values, start) if values.ndim == 3 else None
            present = ~np.isnan(values).all(axis=1) if num_steps is None else num_steps > 0
            values[~present] = 0
            with np.errstate(over="ignore"):
                stored = values.astype(self._dtype, copy=False)
            rows = np.flatnonzero(~np.isfinite(stored).all(axis=tuple(range(1, stored.ndim))))
            if len(rows) and not wrong:
                first_wrong = values[rows[0]]
            wrong += (rows + start).tolist()
            self.num_present += int(present.sum())
            yield Embedded(stored, present, num_steps)
        if wrong:
            raise self._not_finite(wrong, first_wrong)

    def notes(self) -> list[str]:
        """Notes for the user, once all blocks were read."""
        name, notes = self._source.name, [*self._notes]
        if self._num_padded:
            clips = counted(self._num_padded, "clip", "clips")
            notes.append(f"{name}: steps of only NaN are left out in {clips}")
        elif self._num_ending_in_zeros:
            clips = counted(self._num_ending_in_zeros, "clip ends", "clips end")
            notes.append(
                f"{name}: {clips} in steps of zeros, which count as steps. "
                "If they are padding, pass --lengths FILE with the number of steps of each clip."
            )
        num_absent = self.num_clips - self.num_present
        if num_absent:
            rows = counted(num_absent, "row holds only NaN and counts", "rows hold only NaN and count")
            notes.append(f"{name}: {rows} as absent")
        return notes

    def _numbers(self, clips: slice) -> np.ndarray:
        """Rows of some clips as floating-point numbers, NaN without a row."""
        values = self._source.rows.values
        if self._order is None:
            return _to_numbers(values[clips], self._source)
        order = self._order[clips]
        numbers = _to_numbers(values[np.maximum(order, 0)], self._source)
        numbers[order < 0] = np.nan
        return numbers

    def _arrange(self, values: np.ndarray, start: int) -> np.ndarray:
        """Move the valid steps of each clip to its front and fill the others with 0, in place; return their number."""
        max_steps = values.shape[1]
        valid = ~np.isnan(values).all(axis=-1)
        if self._lengths is not None:
            lengths = self._lengths[start : start + len(values)]
            lengths = np.where(valid.any(axis=1), lengths, 0)  # an absent clip needs none
            self._check_lengths(lengths, start)
            values[np.arange(max_steps) >= lengths[:, None]] = 0
            absent = np.isnan(values).all(axis=-1).sum(axis=1) == np.maximum(lengths, 1)
            values[absent] = 0
            return np.where(absent, 0, lengths).astype(np.int32)
        num_steps = valid.sum(axis=1)
        padded = (num_steps < max_steps) & (num_steps > 0)
        if padded.any():
            self._num_padded += int(padded.sum())
            order = np.argsort(~valid, axis=1, kind="stable")
            values[...] = np.take_along_axis(values, order[..., None], axis=1)
            values[np.arange(max_steps) >= num_steps[:, None]] = 0
        self._num_ending_in_zeros += int((~values[:, -1].any(axis=-1) & values.any(axis=(1, 2)) & ~padded).sum())
        return num_steps.astype(np.int32)

    def _check_lengths(self, lengths: np.ndarray, start: int) -> None:
        max_steps = self.row_shape[0]
        wrong = (lengths < 0) | (lengths > max_steps) | (lengths != np.floor(lengths)) | ~np.isfinite(lengths)
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(
                f"--lengths must be whole numbers from 0 to the {max_steps} steps of {self._source.name}, got "
                f"{lengths[row]:g} in row {start + row}. Correct the file, or pass --lengths NAME=FILE for each "
                "embedding."
            )

    def _not_finite(self, wrong: list[int], first: np.ndarray) -> ValueError:
        nan = np.isnan(first)
        if (nan.any(-1) & ~nan.all(-1)).any():
            advice = f"A {'row' if first.ndim == 1 else 'step'} must be NaN in all dimensions or in none."
        elif nan.any():
            advice = "Correct --lengths, which counts steps of NaN."
        elif np.isfinite(first).all() and self._dtype == "float16":
            advice = "Pass --dtype float32."
        else:
            advice = "Fill absent rows with NaN."
        where = f"row {wrong[0]}" if len(wrong) == 1 else f"{len(wrong)} rows, first in row {wrong[0]}"
        source = self._source
        return ValueError(
            f"{source.name} must be finite in {self._dtype}, got other values in {where} of {source.spec.path.name}. "
            f"{advice}"
        )


def _check_shape(source: Source) -> None:
    values, file = source.rows.values, source.spec.path.name
    if values.ndim == 1:
        _to_numbers(values[:], source)
        raise ValueError(
            f"{source.name} must be (clips, dim) or (clips, steps, dim), got one number per clip, {values.shape} in "
            f"{file}. {_advice_for_one_number(source)}"
        )
    if values.dtype.kind not in "biufOUS" or values.ndim > 3 or values.size == 0:
        raise _not_numbers(source)
    num_values = int(np.prod(values.shape[1:], dtype=object))
    if num_values > MAX_ROW_VALUES:
        raise ValueError(
            f"{source.name} must have at most {MAX_ROW_VALUES:,} numbers per clip, got {num_values:,} in {file}. "
            "Save fewer steps or dimensions, or check that the rows are clips."
        )


def _to_numbers(raw: np.ndarray, source: Source) -> np.ndarray:
    """Block of rows as floating-point numbers that may be changed; values that are empty are NaN."""
    try:
        if raw.dtype == object:
            raw = np.where((raw == "") | (raw == np.array(None)), np.nan, raw)
        if raw.dtype.kind in "biufOUS" and raw.size:
            return raw.astype(raw.dtype if raw.dtype in (np.float16, np.float32) else np.float64)
    except (ValueError, TypeError):
        pass
    raise _not_numbers(source)


def _not_numbers(source: Source) -> ValueError:
    values = source.rows.values
    return ValueError(
        f"{source.name} must be numbers, (clips, dim) or (clips, steps, dim), "
        f"got {values.dtype} {values.shape} in {source.spec.path.name}. {source.spec.other('of numbers')}"
    )


def _advice_for_one_number(source: Source) -> str:
    file = source.spec.path.name
    if source.spec.path.suffix.lower() not in (".csv", ".parquet"):
        return "If that number is the whole embedding, save it as x[:, None]."
    if source.rows.column is None:
        return "If that number is the whole embedding, write a header as the first line and name it, FILE:COLUMN."
    return f"If that number is the whole embedding, name its column: {file}:{source.rows.column}."
