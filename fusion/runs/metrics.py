"""Accuracy, mAP and macro F1 of predictions; all are fractions of 1."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import average_precision_score, f1_score
from torch import Tensor


def accuracy(preds: Tensor, target: Tensor) -> Tensor:
    """Fraction of clips with the correct class: `(..., clips, classes)` and `(..., clips)` to `(...)`."""
    return (preds.argmax(-1) == target).double().mean(-1)


def mean_average_precision(preds: Tensor, target: Tensor) -> tuple[float, int]:
    """Mean one-vs-rest average precision over classes, and the number of classes left out.

    Args:
        preds: Softmax scores, `(clips, classes)`.
        target: Classes, `(clips,)`. Classes without a clip have no precision and are left out.
    """
    scores, truth = preds.cpu().numpy(), target.cpu().numpy()
    classes = np.unique(truth)
    each = [average_precision_score(truth == c, scores[:, c]) for c in classes]
    return float(np.mean(each)), preds.shape[-1] - len(classes)


def macro_f1(preds: Tensor, target: Tensor) -> float:
    """Mean F1 over the classes that have clips or are predicted."""
    return float(f1_score(target.cpu().numpy(), preds.argmax(-1).cpu().numpy(), average="macro", zero_division=0.0))
