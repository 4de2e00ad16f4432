"""Accuracy, mAP and macro F1 of predictions; all are fractions of 1."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_average_precision, multiclass_f1_score


def accuracy(preds: Tensor, target: Tensor) -> Tensor:
    """The fraction of clips whose class is right: `(..., clips, classes)` and `(..., clips)` to `(...)`."""
    return (preds.argmax(-1) == target).double().mean(-1)


def mean_average_precision(preds: Tensor, target: Tensor) -> tuple[float, int]:
    """The mean over classes of average precision, one against the rest, and how many classes were left out.

    Args:
        preds: `(clips, classes)` softmax scores.
        target: `(clips,)`. Classes without a clip have no precision and are left out.
    """
    num_classes = preds.shape[-1]
    there = torch.bincount(target, minlength=num_classes) > 0
    # numbers of the classes as classes: torchmetrics warns of those without positives, so they are not asked
    each = multiclass_average_precision(preds, target, num_classes=num_classes, average="none")
    return float(each[there].double().mean()), int((~there).sum())


def macro_f1(preds: Tensor, target: Tensor) -> float:
    """The mean over classes of F1; classes neither predicted nor there are left out (torchmetrics)."""
    return float(multiclass_f1_score(preds, target, num_classes=preds.shape[-1], average="macro"))
