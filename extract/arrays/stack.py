"""One array from the arrays of single clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class ClipArrays:
    """Arrays of single clips that are read as one array, of which only the rows that are asked for are made.

    Attributes:
        arrays: Array of each clip, `(dim,)` or `(steps, dim)`; None for a clip without any, whose row is NaN. NaN pads
            clips with fewer steps.
        shape: Shape of all, `(clips, dim)` or `(clips, steps, dim)`.
        dtype: Type of the numbers.
    """

    arrays: Sequence[np.ndarray | None]
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape, dtype=object))

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Rows of some clips, as an array."""
        wanted = [self.arrays[row] for row in np.arange(len(self))[rows]]
        if all(clip is not None and clip.shape == self.shape[1:] for clip in wanted):
            stacked = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        else:
            stacked = np.full((len(wanted), *self.shape[1:]), np.nan, self.dtype)
        for row, clip in zip(stacked, wanted, strict=True):
            if clip is not None:
                row[: len(clip)] = clip
        return stacked

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Array of all clips."""
        return self[:] if dtype is None else self[:].astype(dtype)


def stack_clips(arrays: Sequence[Any], names: Sequence[str], place: str) -> np.ndarray | ClipArrays:
    """Stack arrays of single clips: values `(clips,)`, vectors `(clips, dim)` or sequences `(clips, steps, dim)`.

    Clips with fewer steps are padded with NaN. A clip whose array is None or empty is all NaN.

    Args:
        arrays: One array per clip.
        names: Names of the clips, for errors.
        place: Place of the arrays, for errors.

    Raises:
        ValueError: The arrays have different lengths, or are no numbers; the message names the first one.
    """
    clips = [None if array is None else np.asarray(array) for array in arrays]
    if all(clip is None or clip.ndim == 0 for clip in clips):
        return np.array([None if clip is None else clip.item() for clip in clips], dtype=object)
    clips = [clip if clip is not None and clip.size else None for clip in clips]
    filled = {i: clip for i, clip in enumerate(clips) if clip is not None}
    if not filled:
        raise ValueError(f"{place} must hold an array of some clip, got only empty ones. Save it again.")
    first_row, first = next(iter(filled.items()))
    for i, clip in filled.items():
        if clip.dtype.kind not in "biuf":
            raise ValueError(f"{place} must hold numbers, got {_kind(clip)} in {names[i]}. Save them as float32.")
        if clip.ndim != first.ndim or clip.ndim not in (1, 2) or clip.shape[-1] != first.shape[-1]:
            raise ValueError(
                f"{place} must hold vectors of one length, got shape {first.shape} in {names[first_row]} and "
                f"{clip.shape} in {names[i]}. Correct that one, or leave it empty if the clip has none."
            )
    if first.ndim == 2 and all(len(clip) == 1 for clip in filled.values()):
        clips = [None if clip is None else clip[0] for clip in clips]
        filled = {i: clip for i, clip in enumerate(clips) if clip is not None}
        first = filled[first_row]
    shape = (max(len(clip) for clip in filled.values()), *first.shape[1:])
    dtypes = {clip.dtype for clip in filled.values()}
    whole = len(filled) == len(clips) and all(clip.shape == shape for clip in filled.values())
    return ClipArrays(clips, (len(clips), *shape), np.result_type(*dtypes, *([] if whole else [np.float32])))


def _kind(array: np.ndarray) -> str:
    return "text" if array.dtype.kind in "US" else str(array.dtype)
