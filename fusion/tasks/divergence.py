"""Jensen-Shannon divergences of predictions, in nats, from 0 to log 2."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def jensen_shannon(logits: Tensor, others: Tensor) -> Tensor:
    """Jensen-Shannon divergence of two softmaxes in nats, from 0 to log 2: `(..., classes)` to `(...)`.

    >>> jensen_shannon(torch.tensor([0.0, 0.0]), torch.tensor([0.0, 0.0])).item()
    0.0
    """
    return _JensenShannon.apply(logits, others)


class _JensenShannon(torch.autograd.Function):
    """With m the mean of p and q: (KL(p, m) + KL(q, m)) / 2, whose gradient is p (log p - log m - KL(p, m)) / 2.

    log p - log m is taken from d = log q - log p, as it is as small as d where p and q are close: it is
    min(-d, 0) - log(1 + (exp(-|d|) - 1) / 2). The classes are first in memory, as in `log_softmax`.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, others: Tensor) -> Tensor:
        log_p = torch.stack([x.movedim(-1, 0) for x in (logits, others)], dim=1).log_softmax(0)  # (classes, 2, ...)
        d = log_p[:, 1] - log_p[:, 0]
        larger_to_mean = d.abs().neg_().expm1_().div_(2).log1p_()
        from_mean = torch.stack([-d, d], dim=1).clamp_(max=0).sub_(larger_to_mean.unsqueeze(1))
        p = log_p.exp_()
        divergence = (p * from_mean).sum(0)  # (2, ...)
        ctx.save_for_backward(p, from_mean, divergence)
        return divergence.sum(0) / 2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        p, from_mean, divergence = ctx.saved_tensors
        of_logits, of_others = ((from_mean - divergence) * p * (grad / 2)).movedim(0, -1).unbind(0)
        return of_logits, of_others


def bernoulli_jensen_shannon(logits: Tensor, others: Tensor) -> Tensor:
    """Jensen-Shannon divergence of sigmoid(logits) and sigmoid(others), each a Bernoulli distribution, elementwise.

    It is that of the softmaxes of the logits (-x/2, x/2).

    >>> bernoulli_jensen_shannon(torch.tensor([0.0, 9.0]), torch.tensor([0.0, -9.0])).round(decimals=3)
    tensor([0.0000, 0.6920])
    """
    return jensen_shannon(*(torch.stack([-x / 2, x / 2], dim=-1) for x in (logits, others)))
