"""Targets of clips, read from the columns of a cache: one class, any number of labels, or a number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from amr.common.registry import unknown
from amr.data_manifests.schema import check_classes
from amr.fusion.tasks import Task

NOT_TARGETS = ("id", "path", "split", "group")
SEPARATORS = (";", "|", ",")  # that lists of labels usually have
LEFT_OUT = "absent"  # word in a cell of labels: the clip is left out; an empty cell has no labels
FLAGS = {"true": 1.0, "false": 0.0}  # as pandas and spreadsheets write them, in any case


@dataclass(frozen=True)
class Targets:
    """Targets of all clips.

    Args:
        task: Task: multiclass, multilabel or regression.
        values: Classes `(clips,)`, -1 without one; or labels `(clips, labels)`, 0 or 1; or numbers `(clips,)`; of both,
            NaN without one.
        classes: Names of the classes or labels, sorted, or of columns in their order; of a number, its column.
    """

    task: str
    values: np.ndarray
    classes: tuple[str, ...]


@dataclass(frozen=True)
class TargetScale:
    """Mean and deviation of a number over the train clips, in whose units heads are trained.

    >>> import torch
    >>> scale = TargetScale.of(torch.tensor([1.0, 3.0]))
    >>> scale.apply(torch.tensor([4.0])), scale.undo(scale.apply(torch.tensor([4.0])))
    (tensor([2.]), tensor([4.]))
    """

    mean: float
    std: float

    @classmethod
    def of(cls, train: Tensor) -> TargetScale:
        """Scale of the targets of train clips, `(clips,)`; a constant target has deviation 1."""
        exact = train.double()
        std = float(exact.std(correction=0))
        return cls(float(exact.mean()), std if std > 0 else 1.0)

    def apply(self, target: Tensor) -> Tensor:
        """Numbers in units of the train deviation, above the train mean."""
        return ((target.double() - self.mean) / self.std).to(target.dtype)

    def undo(self, values: Tensor) -> Tensor:
        """Numbers as in the cache."""
        return (values.double() * self.std + self.mean).to(values.dtype)


def readable(outputs: Tensor, task: Task, scale: TargetScale | None) -> Tensor:
    """Probabilities of classes or labels, or numbers as in the cache, shaped as the outputs of a head.

    Args:
        outputs: Outputs, `(..., outputs)`.
        task: What they say.
        scale: Scale of a number; None for classes and labels.
    """
    values = task.readable(outputs)
    return values if scale is None else scale.undo(values)


def read_targets(clips: pd.DataFrame, label: str, task: str = "multiclass", separator: str | None = None) -> Targets:
    """Read the targets of clips.

    Args:
        clips: Clip table of a cache or a manifest.
        label: Column to predict; for several labels also a comma list of columns of 0 and 1.
        task: Task: multiclass, multilabel or regression.
        separator: Text between the labels of a cell.

    Raises:
        ValueError: A column does not exist, or does not hold such targets.
    """
    if task == "multilabel":
        return _labels(clips, label, separator)
    _refuse_several(clips, label, task)
    if task == "regression":
        return _numbers(clips, label)
    values, classes = read_target(clips, label)
    return Targets(task, values, classes)


def read_target(clips: pd.DataFrame, label: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class of each clip, `(clips,)`, -1 without a label, and the names of the classes, sorted.

    Args:
        clips: Clip table of a cache or a manifest.
        label: Column to predict.

    Raises:
        ValueError: The column does not exist, or has fewer than two classes.
    """
    codes, names = pd.factorize(_column(clips, label))
    check_classes(names[codes], label)
    classes = tuple(sort_classes([name for name in names if name]))
    if len(classes) < 2:
        raise ValueError(
            f"--label must name a column with at least two classes, got {label!r} with {len(classes)}. "
            "Pass another column."
        )
    class_of = {name: code for code, name in enumerate(classes)}
    return np.array([class_of.get(name, -1) for name in names], dtype=np.int64)[codes], classes


def strata(task: str, values: np.ndarray) -> np.ndarray:
    """Code of each clip by which splits are stratified, `(clips,)`: its class, its set of labels, or the same for all.

    >>> strata("multilabel", np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0]])).tolist()
    [0, 1, 0]
    """
    if task == "multiclass":
        return values
    if task == "regression":
        return np.zeros(len(values), np.int64)
    return np.unique(np.nan_to_num(values, nan=-1), axis=0, return_inverse=True)[1].reshape(-1)


def sort_classes(names: Sequence[str]) -> list[str]:
    """Sort class names, as numbers if all of them are numbers.

    >>> sort_classes(["10", "9", "1"])
    ['1', '9', '10']
    """
    try:
        numbers = {name: float(name) for name in names}
    except ValueError:
        return sorted(names)
    if any(math.isnan(number) for number in numbers.values()):  # nan has no place among numbers
        return sorted(names)
    return sorted(names, key=lambda name: (numbers[name], name))


def _refuse_several(clips: pd.DataFrame, label: str, task: str) -> None:
    """Raise ValueError for a list of columns, which only labels may have."""
    if label not in clips and "," in label and any(name.strip() in clips for name in label.split(",")):
        raise ValueError(
            f"--label must be one column for --task {task}, got {label!r}. Pass --task multilabel for columns of 0 "
            "and 1, or name one column."
        )


def _column(clips: pd.DataFrame, label: str) -> np.ndarray:
    if label not in clips or label in NOT_TARGETS:
        raise unknown("--label", label, [c for c in map(str, clips) if c not in NOT_TARGETS])
    return clips[label].astype(str).to_numpy(object)


def _numbers(clips: pd.DataFrame, label: str) -> Targets:
    texts = _column(clips, label)
    values = np.full(len(texts), np.nan, np.float32)
    for row, text in enumerate(texts):
        if not text:
            continue
        try:
            values[row] = float(text)
        except ValueError:
            values[row] = np.nan
        if not np.isfinite(values[row]):
            raise ValueError(
                f"--label must name a column of numbers for --task regression, got {text!r} in {label!r} for clip "
                f"{clips['id'].iat[row]!r}. Leave the cell empty for a clip without one, or pass another column."
            )
    if len(np.unique(values[~np.isnan(values)])) < 2:
        raise ValueError(
            f"--label must name a column with at least two different numbers, got {label!r}. Pass another column."
        )
    return Targets("regression", values, (label,))


def _labels(clips: pd.DataFrame, label: str, separator: str | None) -> Targets:
    if separator is not None:
        return _separated(clips, label, separator)
    columns = [label] if label in clips else [name.strip() for name in label.split(",")]
    if len(columns) < 2:
        raise ValueError(
            f"--task multilabel must have --label-separator, or several columns of 0 and 1 in --label, got {label!r}. "
            "Pass for example --label-separator ';', or --label happy,sad."
        )
    if len(set(columns)) < len(columns):
        raise ValueError(f"--label must name each column once, got {label!r}. Name it once.")
    values = np.full((len(clips), len(columns)), np.nan, np.float32)
    for i, name in enumerate(columns):
        for row, text in enumerate(_column(clips, name)):
            if text not in ("", LEFT_OUT):
                values[row, i] = _zero_or_one(text, name, clips["id"].iat[row])
    values[np.isnan(values).any(1)] = np.nan
    return _checked(Targets("multilabel", values, tuple(columns)), label)


def _zero_or_one(text: str, column: str, clip: object) -> float:
    word = text.strip().lower()
    try:
        number = FLAGS[word] if word in FLAGS else float(word)
    except ValueError:
        number = math.nan
    if number not in (0, 1):
        raise ValueError(
            f"{column} must be 0 or 1, or true or false, for --task multilabel, got {text!r} for clip {clip!r}. "
            "Write 1 or true for a clip with the label, 0 or false for one without; an empty cell leaves the clip out."
        )
    return number


def _separated(clips: pd.DataFrame, label: str, separator: str) -> Targets:
    texts = [str(text).strip() for text in _column(clips, label)]
    _check_separator(texts, label, separator)
    cells = [
        None if text.casefold() == LEFT_OUT else {part for each in text.split(separator) if (part := each.strip())}
        for text in texts
    ]
    for row, cell in enumerate(cells):
        if cell is not None and any(part.casefold() == LEFT_OUT for part in cell):
            raise ValueError(
                f"{label} must be labels, or {LEFT_OUT} alone to leave a clip out, got {texts[row]!r} for clip "
                f"{clips['id'].iat[row]!r}. Write one of the two."
            )
    classes = sort_classes(sorted(set().union(*(cell for cell in cells if cell is not None))))
    place = {name: i for i, name in enumerate(classes)}
    values = np.zeros((len(cells), len(classes)), np.float32)
    for row, cell in enumerate(cells):
        if cell is None:
            values[row] = np.nan
        else:
            values[row, [place[name] for name in cell]] = 1
    return _checked(Targets("multilabel", values, tuple(classes)), label)


def _check_separator(texts: list[str], label: str, separator: str) -> None:
    """Raise ValueError if no cell has the separator, and some have another."""
    if any(separator in text for text in texts):
        return
    counts = {each: sum(each in text for text in texts) for each in SEPARATORS}
    other = max(counts, key=lambda each: counts[each])
    if counts[other]:
        raise ValueError(
            f"--label-separator must be in a cell of {label!r}, got {separator!r} in none. "
            f"Pass --label-separator {other!r}, which {counts[other]} cells have."
        )


def _checked(targets: Targets, label: str) -> Targets:
    if len(targets.classes) < 2 or not np.nansum(targets.values) > 0:
        raise ValueError(
            f"--label must have at least two labels that clips have, got {label!r} with "
            f"{', '.join(targets.classes) or 'none'}. Pass another column or --label-separator."
        )
    return targets
