"""How well each clip is answered: correctness, confidence, NLL and Brier score."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Scores:
    """How each clip was answered; all `(run, clips)`, on the CPU.

    Args:
        right: 1 where the answer is the clip's class.
        confidence: probability of the answer.
        nll: minus log probability of the clip's class.
        brier: sum over the classes of (probability - [is the clip's class])^2.
    """

    right: Tensor
    confidence: Tensor
    nll: Tensor
    brier: Tensor


def score(logits: Tensor, target: Tensor) -> Scores:
    """`(run, clips, classes)` and `(clips,)` to the scores of each clip."""
    log_p = logits.log_softmax(-1)
    p = log_p.exp()
    confidence, answer = p.max(-1)
    of_target = log_p.gather(-1, target.expand(len(p), -1).unsqueeze(-1)).squeeze(-1)
    brier = p.square().sum(-1) - 2 * of_target.exp() + 1
    return Scores(*(x.float().cpu() for x in (answer == target, confidence, -of_target, brier)))


def join(scores: list[Scores]) -> Scores:
    """Over draws: the mean of each clip's NLL and Brier score; confidence and right as `(run, clips, draws)`."""
    return Scores(
        torch.stack([s.right for s in scores], -1),
        torch.stack([s.confidence for s in scores], -1),
        torch.stack([s.nll for s in scores]).mean(0),
        torch.stack([s.brier for s in scores]).mean(0),
    )
