"""Scores of each clip: correctness, confidence, NLL and Brier score."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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
    of_target = log_p.gather(-1, target.expand(len(p), -1).unsqueeze(-1)).squeeze(-1)
    brier = p.square().sum(-1) - 2 * of_target.exp() + 1
    return Scores(*(x.float().cpu() for x in (predicted == target, confidence, -of_target, brier)))


def join(scores: list[Scores]) -> Scores:
    """Join scores over draws: mean NLL and Brier score; confidence and correctness as `(run, clips, draws)`."""
    return Scores(
        torch.stack([s.correct for s in scores], -1),
        torch.stack([s.confidence for s in scores], -1),
        torch.stack([s.nll for s in scores]).mean(0),
        torch.stack([s.brier for s in scores]).mean(0),
    )
