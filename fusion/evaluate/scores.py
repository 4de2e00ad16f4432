"""Scores of each clip: correctness, confidence, NLL and Brier score."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from amr.fusion.run_axis.axes import at_target


@dataclass(frozen=True)
class Scores:
    """Scores of each clip, all `(run, clips)` on the CPU.

    Args:
        correct: Correctness: 1 if the predicted class is the clip's class.
        confidence: Probability of the predicted class.
        nll: Negative log probability of the clip's class.
        brier: Sum over the classes of (probability - [is the clip's class])^2.
    """

    correct: Tensor
    confidence: Tensor
    nll: Tensor
    brier: Tensor


def score(logits: Tensor, target: Tensor) -> Scores:
    """Scores of each clip from logits `(run, clips, classes)` and classes `(clips,)`."""
    log_p = logits.log_softmax(-1)
    p = log_p.exp()
    confidence, predicted = p.max(-1)
    of_target = at_target(log_p, target)
    brier = p.square().sum(-1) - 2 * of_target.exp() + 1
    return Scores(*(x.float().cpu() for x in (predicted == target, confidence, -of_target, brier)))


@dataclass(frozen=True)
class SubsetScores:
    """Scores with each subset of the modalities, all `(subsets, run, clips)` on the CPU, in the order of `subsets`.

    Args:
        correct: Correctness: 1 if the predicted class is the clip's class.
        probability: Probability of the class that is predicted with all modalities.
        logit: Logit of that class.
    """

    correct: Tensor
    probability: Tensor
    logit: Tensor


def score_subset(logits: Tensor, predicted: Tensor, target: Tensor) -> SubsetScores:
    """Scores with one subset, `(run, clips)`.

    Args:
        logits: Logits with that subset, `(run, clips, classes)`.
        predicted: Classes predicted with all modalities, `(run, clips)`.
        target: Classes, `(clips,)`.
    """
    probability, logit = (x.gather(-1, predicted.unsqueeze(-1)).squeeze(-1) for x in (logits.softmax(-1), logits))
    return SubsetScores(*(x.float().cpu() for x in (logits.argmax(-1) == target, probability, logit)))


def stack_subsets(scores: list[SubsetScores]) -> SubsetScores:
    """Stack the scores of single subsets, `(run, clips)` each, along a first axis."""
    return SubsetScores(*(torch.stack([getattr(s, f.name) for s in scores]) for f in fields(SubsetScores)))


def concatenate(scores: list[Scores]) -> Scores:
    """Scores of chunks of clips, `(run, chunk)` each, as those of all clips, `(run, clips)`."""
    return Scores(*(torch.cat([getattr(s, f.name) for s in scores], dim=1) for f in fields(Scores)))


def join(scores: list[Scores]) -> Scores:
    """Join scores over draws: mean NLL and Brier score; confidence and correctness as `(run, clips, draws)`."""
    return Scores(
        torch.stack([s.correct for s in scores], -1),
        torch.stack([s.confidence for s in scores], -1),
        torch.stack([s.nll for s in scores]).mean(0),
        torch.stack([s.brier for s in scores]).mean(0),
    )
