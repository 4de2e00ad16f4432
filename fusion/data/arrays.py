"""Arrays in memory as training data: columns to modalities, NaN to absence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from amr.common.registry import unknown
from amr.extract.cache.reader import EmbeddingInfo
from amr.fusion.data.clips import Clips
from amr.fusion.data.dataset import Dataset
from amr.fusion.data.normalization import Normalization
from amr.fusion.run_axis.axes import take_steps

_NAME = re.compile(r"[\w-]+")  # names that fit into ratios and comma lists


def column_numbers(modality: str, which: Any, num_columns: int, names: np.ndarray | None) -> np.ndarray:
    """Column numbers of a modality.

    Args:
        modality: Name, for errors.
        which: Slice, column numbers, or column names.
        num_columns: Number of columns of the array.
        names: Names of its columns; None if they have none.

    Raises:
        ValueError: A column does not exist, or the modality has none.
    """
    argument = f"slices[{modality!r}]"
    if isinstance(which, slice):
        found = np.arange(num_columns)[which]
        fits = which.stop is None or which.stop <= num_columns  # numpy would silently clip it
    else:
        texts = [each for each in which if isinstance(each, str)]
        if texts and names is None:
            raise ValueError(
                f"{argument} must be numbers for an X without column names, got {texts[0]!r}. Pass a DataFrame; in a "
                "pipeline, call set_output(transform='pandas') on it."
            )
        places = {} if names is None else {name: place for place, name in enumerate(names)}
        for text in texts:
            if text not in places:
                raise unknown(argument, text, places)
        found = np.array([places[each] if isinstance(each, str) else each for each in which], dtype=np.int64)
        fits = bool(((found >= 0) & (found < num_columns)).all())
    if not fits or len(found) == 0:
        raise ValueError(
            f"{argument} must be columns of X, which has {num_columns} feature(s), got {which!r}. "
            f"Pass for example slice(0, {num_columns})."
        )
    return found


def select_modalities(modalities: str | None, arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Names of the requested modalities, in order."""
    for m in arrays:
        if not (isinstance(m, str) and _NAME.fullmatch(m)):
            raise ValueError(f"modalities must be named with letters, digits, '_' and '-', got {m!r}. Rename it.")
    names = list(arrays) if modalities is None else [name.strip() for name in modalities.split(",")]
    for name in names:
        if name not in arrays:
            raise unknown("modalities", name, arrays)
    if len(set(names)) != len(names):
        raise ValueError(f"modalities must name each modality once, got {modalities!r}. Leave the others out.")
    return names


def embeddings_of(arrays: Mapping[str, np.ndarray], *, keep_steps: bool) -> tuple[dict[str, Tensor], Tensor]:
    """Embeddings as a cache stores them, NaN if absent, and `present`, bool `(clips, modalities)`."""
    embeddings, present = {}, []
    for m, values in arrays.items():
        missing = np.isnan(values)
        gaps = missing.all(-1)  # (clips,) or (clips, steps)
        present.append(~gaps if values.ndim == 2 else ~gaps.all(-1))
        # a vector may be missing only as a whole, and steps only at the end
        wrong = (missing.any(-1) & ~gaps).reshape(len(values), -1).any(-1)
        if values.ndim == 3:
            wrong |= (gaps[:, :-1] & ~gaps[:, 1:]).any(-1)
        if wrong.any():
            kind = "row" if values.ndim == 2 else "row, or in the last steps of one"
            raise ValueError(
                f"{m} must be finite, or NaN throughout a {kind}, got NaN elsewhere in {int(wrong.sum())} rows, first "
                f"row {int(wrong.argmax())}. Fill them in, for example with SimpleImputer."
            )
        num_steps = None if values.ndim == 2 else torch.from_numpy((~gaps).sum(-1))
        tensor = torch.from_numpy(np.require(values, requirements=("C", "W")))
        embeddings[m] = take_steps(tensor, num_steps, keep_steps=keep_steps)
    stacked = np.stack(present, axis=-1)
    empty = ~stacked.any(-1)
    if empty.any():
        raise ValueError(
            f"each clip must have one of {', '.join(arrays)}, got NaN throughout in {int(empty.sum())} rows, first row "
            f"{int(empty.argmax())}. Leave them out."
        )
    return embeddings, torch.from_numpy(stacked)


def dataset_of(embeddings: Mapping[str, Tensor], present: Tensor, target: np.ndarray, classes: np.ndarray) -> Dataset:
    """Dataset of the arrays, as if read from a cache with the same clips."""
    return Dataset(
        clips=pd.DataFrame(index=range(len(target))),
        embeddings=embeddings,
        present=present,
        target=torch.from_numpy(target),
        classes=tuple(map(str, classes.tolist())),
        infos={m: EmbeddingInfo(m, m, "array", "", {}, "float32", e.shape[-1]) for m, e in embeddings.items()},
    )


def clips_of(dataset: Dataset, normalization: Normalization, rows: np.ndarray, device: torch.device) -> Clips:
    """Normalized clips of `rows`, on the device."""
    index, present = torch.from_numpy(rows), normalization.mask(dataset.present)
    embeddings = normalization.apply(dataset.embeddings, present, index)
    return Clips(
        {m: e.to(device) for m, e in embeddings.items()}, present[index].to(device), dataset.target[index].to(device)
    )
