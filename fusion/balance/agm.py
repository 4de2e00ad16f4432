"""Adaptive gradient modulation (Li et al. 2023): modalities whose loss falls behind get more of the gradient."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor

from amr.fusion.tasks import Task
from amr.fusion.tasks.multiclass import MULTICLASS

LARGEST_EXPONENT = 40.0  # of a factor: the norm of gradients squares it, which must be finite in single precision
LARGEST = -log(1e-8)  # largest loss that counts: the authors clamp p at 1e-8


def agm_losses(out: Tensor, target: Tensor, present: Tensor | None = None, task: Task = MULTICLASS) -> Tensor:
    """Mean loss of each modality's logits over the clips that have it, `(modalities, ...)`; NaN if none has.

    The loss of a clip is at most -log 1e-8, as in the authors' code, and carries no gradient. Weights of the classes do
    not count: the means say how much a modality knows.

    Args:
        out: Logits of each modality, `(modalities, ..., clips, classes)`, such as `unimodal_logits`.
        target: Classes, `(..., clips)`, or the targets of another task.
        present: Bool `(..., clips, modalities)`; None if every clip has every modality.
        task: What is predicted.

    >>> agm_losses(torch.tensor([[[99.0, 0.0]], [[0.0, 0.0]]]), torch.tensor([1])).round(decimals=3)
    tensor([18.4210,  0.6930])
    """
    losses = task.weighted(None).losses(out.detach(), target).clamp_max(LARGEST)
    valid = torch.ones_like(losses, dtype=torch.bool) if present is None else present.movedim(-1, 0)
    return losses.masked_fill(~valid, 0).sum(-1) / valid.sum(-1)


def agm_coefficients(losses: Tensor, running: Tensor, alpha: float = 1.0, cap: float = 10.0) -> Tensor:
    """Factor kappa of the gradient of each modality, `(modalities, ...)` as the losses (Li et al. 2023).

        r_m     = exp(mean of the other modalities' loss - loss of m)     more than 1 if m is the stronger one
        tau_m   = the same of the running means; 1 as long as there are none
        kappa_m = exp(alpha min(tau_m - r_m, cap))

    Args:
        losses: Mean loss of each modality on the batch, `(modalities, ...)`. One that is NaN is not compared: its
            factor is 1.
        running: Mean of the losses over the batches so far, without this one; NaN if there are none.
        alpha: Strength; 0 gives factors of 1.
        cap: Largest tau_m - r_m.

    The stronger modality gets the smaller factor:

    >>> agm_coefficients(torch.tensor([0.6, 1.6]), torch.tensor([torch.nan, torch.nan])).round(decimals=2)
    tensor([0.1800, 1.8800])
    """
    strength, usual = _strength(losses), _strength(running)
    excess = (torch.where(usual.isnan(), 1, usual) - strength).clamp_max(cap)
    return torch.where(strength.isnan(), 1, torch.exp((alpha * excess).clamp_max(LARGEST_EXPONENT)))


def _strength(losses: Tensor) -> Tensor:
    """exp(mean of the others' loss - own loss), `(modalities, ...)`; NaN without a loss of its own or of others."""
    known = ~losses.isnan()
    values = losses.where(known, 0)
    num_others = known.sum(0) - known.long()
    others = (values.sum(0) - values) / num_others
    return torch.exp((others - losses).clamp_max(LARGEST)).where(num_others > 0, torch.nan)


def agm_logits(out: Tensor, coefficients: Tensor) -> Tensor:
    """Joint logits whose gradient reaches each part multiplied by its coefficient, `(..., clips, classes)`.

    sum_m kappa_m out_m + (1 - kappa_m) sg(out_m), with sg a constant: the value is the sum of the parts.

    Args:
        out: Logits of each modality, `(modalities, ..., clips, classes)`, such as `unimodal_logits`.
        coefficients: Factors kappa, `(modalities, ...)`.

    >>> out = torch.ones(2, 1, 3, requires_grad=True)
    >>> logits = agm_logits(out, torch.tensor([0.5, 2.0]))
    >>> logits
    tensor([[2., 2., 2.]], grad_fn=<SumBackward1>)
    >>> torch.autograd.grad(logits.sum(), out)[0][:, 0, 0]
    tensor([0.5000, 2.0000])
    """
    constant = out.detach()
    return (constant + coefficients[..., None, None] * (out - constant)).sum(0)
