"""Boosting over modalities (Hua et al. 2024, ReconBoost): loss of one learner, given what the others answer."""

from __future__ import annotations

import torch  # noqa: F401  (examples use it)
from torch import Tensor

from amr.fusion.run_axis.axes import at_target


def reconcile_losses(out: Tensor, others: Tensor, target: Tensor, w1: float = 5.0, w2: float = 1.0) -> Tensor:
    """Cross-entropy of a modality's logits, less where the others are right without it, `(..., clips)`.

        CE(out, y) (w1 - w2 softmax(others)_y) / C

    Args:
        out: Logits of the modality, `(..., clips, classes)`.
        others: Sum of the logits of all others; no gradient reaches them.
        target: Classes, `(..., clips)`.
        w1: Weight of agreement with the target.
        w2: Weight of what the others know, at most w1.

    >>> out, others = torch.zeros(2, 2), torch.tensor([[0.0, 0.0], [9.0, -9.0]])
    >>> reconcile_losses(out, others, torch.tensor([0, 0])).round(decimals=3)
    tensor([1.5600, 1.3860])
    """
    log_p, known = at_target(out.log_softmax(-1), target), at_target(others.detach().softmax(-1), target)
    return -log_p * (w1 - w2 * known) / out.shape[-1]


def alignment_losses(out: Tensor, previous: Tensor) -> Tensor:
    """Mean squared distance of two softmaxes, `(..., classes)` twice to `(...)`; no gradient reaches the previous one.

    >>> alignment_losses(torch.tensor([[0.0, 0.0]]), torch.tensor([[30.0, -30.0]]))
    tensor([0.2500])
    """
    return (out.softmax(-1) - previous.detach().softmax(-1)).square().mean(-1)
