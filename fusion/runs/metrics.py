"""Accuracy, mAP and macro F1 of predictions; all are fractions of 1."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def accuracy(preds: Tensor, target: Tensor) -> Tensor:
    """Fraction of clips with the correct class: `(..., clips, classes)` and `(..., clips)` to `(...)`."""
    return (preds.argmax(-1) == target).double().mean(-1)


def log_odds(logits: Tensor) -> Tensor:
    """Log-odds of each class, log p_c - log(1 - p_c), in float64: `(..., classes)` to the same shape.

    Probabilities near 1 round to 1 and tie. These do not: for the largest logit, 1 - p comes from the other logits.

    >>> log_odds(torch.tensor([[60.0, 0.0], [50.0, 0.0]]))
    tensor([[ 60., -60.],
            [ 50., -50.]], dtype=torch.float64)
    """
    logits = logits.double()
    top = logits.argmax(-1, keepdim=True)
    log_p = logits.log_softmax(-1)
    of_others = log_p - torch.log1p(-log_p.exp().scatter(-1, top, 0.0))
    rest = logits.scatter(-1, top, -torch.inf).logsumexp(-1, keepdim=True)
    return of_others.scatter(-1, top, logits.gather(-1, top) - rest)


def mean_average_precision(logits: Tensor, target: Tensor) -> tuple[float, int]:
    """Mean one-vs-rest average precision over classes, and the number of classes left out.

    Args:
        logits: Logits, `(clips, classes)`. The clips of a class are ranked by its log-odds.
        target: Classes, `(clips,)`. Classes without a clip have no precision and are left out.
    """
    scores, truth = log_odds(logits).cpu().numpy(), target.cpu().numpy()
    classes = np.unique(truth)
    each = [average_precision(scores[:, c], truth == c) for c in classes]
    return float(np.mean(each)), logits.shape[-1] - len(classes)


def mean_average_precisions(logits: Tensor, target: Tensor) -> Tensor:
    """`mean_average_precision` of each run, `(run, clips, classes)` to `(run,)`."""
    each = [mean_average_precision(of_run, target)[0] for of_run in logits.cpu()]
    return torch.tensor(each, dtype=torch.float64)


def macro_f1(preds: Tensor, target: Tensor) -> float:
    """Mean F1 over the classes that have clips or are predicted."""
    truth, chosen, num_classes = target.cpu(), preds.argmax(-1).cpu(), preds.shape[-1]
    of_class, of_choice, right = (
        torch.bincount(each, minlength=num_classes) for each in (truth, chosen, truth[truth == chosen])
    )
    counted = of_class + of_choice > 0
    return float((2 * right[counted] / (of_class + of_choice)[counted].double()).mean())


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Sum over the scores, from the highest, of the precision there times the recall it adds; ties count as one."""
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(truth[order])
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))  # of each tie
    return float(np.sum(np.diff(hits[last], prepend=0) * hits[last] / (last + 1)) / hits[-1])
