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


def balanced_accuracy(preds: Tensor, target: Tensor) -> float:
    """Mean over the classes that have clips of the fraction of their clips that are predicted correctly."""
    truth, chosen, num_classes = target.cpu(), preds.argmax(-1).cpu(), preds.shape[-1]
    of_class, right = (torch.bincount(each, minlength=num_classes) for each in (truth, truth[truth == chosen]))
    counted = of_class > 0
    return float((right[counted] / of_class[counted].double()).mean())


def label_average_precision(outputs: Tensor, target: Tensor) -> tuple[float, int]:
    """Mean average precision over labels, and the number of labels left out.

    Args:
        outputs: Log-odds of each label, `(clips, labels)`.
        target: 1 where a clip has the label, else 0, `(clips, labels)`. Labels without a clip are left out.

    Returns:
        NaN if no label has a clip.
    """
    scores, truth = outputs.double().cpu().numpy(), target.cpu().numpy() > 0
    counted = np.flatnonzero(truth.any(0))
    each = [average_precision(scores[:, c], truth[:, c]) for c in counted]
    return float(np.mean(each)) if each else float("nan"), outputs.shape[-1] - len(counted)


def label_scores(outputs: Tensor, target: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Average precision and F1 of each label, both `(labels,)`, whose means are `map` and `f1`.

    Args:
        outputs: Log-odds of each label, `(clips, labels)`.
        target: 1 where a clip has the label, else 0, `(clips, labels)`.

    Returns:
        NaN is the average precision of a label without a clip, and the F1 of one that is not predicted either.
    """
    scores, truth = outputs.double().cpu().numpy(), target.cpu().numpy() > 0
    chosen = scores > 0
    precision = [average_precision(s, t) if t.any() else np.nan for s, t in zip(scores.T, truth.T, strict=True)]
    total = truth.sum(0) + chosen.sum(0)
    f1 = np.where(total > 0, 2 * (truth & chosen).sum(0) / np.maximum(total, 1), np.nan)
    return np.array(precision), f1


def label_average_precision_values(outputs: Tensor, target: Tensor) -> Tensor:
    """Values of the clips whose mean is `label_average_precision`, `(clips,)` float64 on the CPU.

    AP under clip weights w is sum_j w_j y_j P_j / sum_j w_j y_j, where P_j = TP_j / N_j is the precision at the score
    of clip j, both summed over w. Its derivative with respect to w_i, times the number of clips, is added to AP:

        n / P [ y_i P_i + y_i sum_j y_j / N_j - sum_j y_j TP_j / N_j^2 - y_i AP ],    j over the clips not above clip i

    Args:
        outputs: Log-odds of each label, `(clips, labels)`.
        target: 1 where a clip has the label, else 0, `(clips, labels)`.
    """
    scores, truth = outputs.double().cpu().numpy(), target.cpu().numpy() > 0
    counted = np.flatnonzero(truth.any(0))
    each = [_average_precision_values(scores[:, c], truth[:, c]) for c in counted]
    return torch.from_numpy(np.mean(each, axis=0) if each else np.full(len(scores), np.nan))


def _average_precision_values(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    order = np.argsort(-scores, kind="stable")
    has = truth[order].astype(float)
    ranked = scores[order]
    last = np.searchsorted(-ranked, -ranked, side="right") - 1  # of each tie
    hits, counts = np.cumsum(has)[last], last + 1.0
    precision, positives = hits / counts, has.sum()
    average = float((has * precision).sum() / positives)
    first = np.searchsorted(-ranked, -ranked, side="left")
    below = [np.cumsum((has * each)[::-1])[::-1][first] for each in (1 / counts, hits / counts**2)]  # not above clip i
    derivative = has * precision + has * below[0] - below[1] - has * average
    values = np.empty(len(scores))
    values[order] = average + len(scores) / positives * derivative
    return values


def exact_match(outputs: Tensor, target: Tensor) -> float:
    """Fraction of clips of which every label is right."""
    return float(((outputs > 0) == (target > 0)).all(-1).double().mean())


def label_f1(outputs: Tensor, target: Tensor) -> float:
    """Mean F1 over the labels that clips have or that are predicted; NaN if there are none."""
    truth, chosen = target.cpu() > 0, outputs.cpu() > 0
    total = (truth.sum(0) + chosen.sum(0)).double()
    return float((2 * (truth & chosen).sum(0) / total)[total > 0].mean())


SENTIMENT = 3  # scale of the sentiment field's targets: -3 to 3


def sentiment_scores(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float | None]:
    """Acc-2, Acc-7 and F1 as for CMU-MOSI and CMU-MOSEI (Zadeh et al. 2016, 2018), None where targets do not fit.

    Acc-2 and the weighted F1 are of the sign, clips with target 0 left out. Acc-7 is of the value, rounded to a whole
    number from -3 to 3.

    Args:
        predicted: Predicted values, `(clips,)`.
        truth: Targets, `(clips,)`.
    """
    signed = truth != 0
    positive, chosen = truth[signed] > 0, predicted[signed] > 0
    result: dict[str, float | None] = {"acc2": None, "acc7": None, "f1": None}
    if len(truth) and np.abs(truth).max() <= SENTIMENT:
        rounded = (np.round(np.clip(x, -SENTIMENT, SENTIMENT)) for x in (predicted, truth))
        result["acc7"] = float(np.mean(np.equal(*rounded)))
    if len(np.unique(positive)) == 2:
        scores = []
        for sign in (False, True):
            right = np.sum((positive == sign) & (chosen == sign))
            scores.append(2 * right / (np.sum(positive == sign) + np.sum(chosen == sign)))
        result["acc2"] = float(np.mean(positive == chosen))
        result["f1"] = float(np.dot(scores, [np.mean(~positive), np.mean(positive)]))
    return result


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Sum over the scores, from the highest, of the precision there times the recall it adds; ties count as one."""
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(truth[order])
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))  # of each tie
    return float(np.sum(np.diff(hits[last], prepend=0) * hits[last] / (last + 1)) / hits[-1])
