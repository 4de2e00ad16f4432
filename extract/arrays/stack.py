"""One array from the arrays of single clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def stack_clips(arrays: Sequence[Any], names: Sequence[str], place: str) -> np.ndarray:
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
    filled = {i: clip for i, clip in enumerate(clips) if clip is not None and clip.size}
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
    has_steps = first.ndim == 2
    if len(filled) == len(clips) and all(clip.shape == first.shape for clip in filled.values()):
        stacked = np.stack(list(filled.values()))
    else:
        shape = (max(len(clip) for clip in filled.values()), first.shape[1]) if has_steps else first.shape
        dtype = np.result_type(np.float32, *{clip.dtype for clip in filled.values()})
        stacked = np.full((len(clips), *shape), np.nan, dtype)
        for i, clip in filled.items():
            stacked[(i, slice(len(clip))) if has_steps else i] = clip
    return stacked[:, 0] if has_steps and stacked.shape[1] == 1 else stacked


def _kind(array: np.ndarray) -> str:
    return "text" if array.dtype.kind in "US" else str(array.dtype)
