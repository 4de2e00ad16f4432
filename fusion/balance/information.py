"""Information acquisition regulation (Huang et al. 2025, InfoReg): when modalities learn much, and which is held."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def acquisition_growth(traces: Tensor, window: int) -> Tensor:
    """Growth of the Fisher trace over the last epochs, as a part of its mean over them, `(...)`.

    (T_t - T_{t - window}) / mean(T_{t - window + 1}, ..., T_t), with T = 0 before the first epoch. So it is high in the
    first epochs, and 0 when the trace is constant for longer than the window.

    Args:
        traces: Trace of each epoch so far, `(epochs, ...)`, such as the squared norm of the gradient of an encoder, as
            a mean over its batches.
        window: Number of epochs, 1 or more.

    >>> acquisition_growth(torch.tensor([1.0, 2.0]), window=2), acquisition_growth(torch.ones(5), window=2)
    (tensor(1.3333), tensor(0.))
    """
    padding = traces.new_zeros(max(0, window + 1 - len(traces)), *traces.shape[1:])
    recent = torch.cat([padding, traces])[-window - 1 :]
    mean = recent[1:].mean(0)
    return (recent[-1] - recent[0]) / mean.clamp_min(torch.finfo(mean.dtype).tiny)


def inforeg_coefficients(scores: Tensor, prime: Tensor, beta: float, counted: Tensor | None = None) -> Tensor:
    """Strength with which each encoder is held at its weights at the start of the epoch, `(modalities, ...)`.

    beta exp(tanh(s_m - mean of the other modalities' s)) where this difference is above 0 and the modality is in its
    prime window, else 0.

    Args:
        scores: Mean probability of the right class by each modality, s, `(modalities, ...)`.
        prime: Bool, shaped as the scores: modalities that are in their prime learning window.
        beta: Strength.
        counted: Bool, shaped as the scores: modalities that are compared. None for all.

    >>> inforeg_coefficients(torch.tensor([0.8, 0.3]), torch.tensor([True, True]), beta=0.95).round(decimals=4)
    tensor([1.5081, 0.0000])
    """
    counted = torch.ones_like(prime) if counted is None else counted
    num_others = counted.sum(0) - counted.to(torch.long)
    others = ((scores * counted).sum(0) - scores * counted) / num_others.clamp_min(1)
    lead = scores - others
    held = (lead > 0) & counted & (num_others > 0) & prime
    return torch.where(held, beta * torch.exp(torch.tanh(lead)), 0)


def squared_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Squared norm of the gradients of all parameters of a model with a leading run axis, `(run,)`.

    >>> squared_norm([torch.tensor([[1.0, 2.0]]), torch.tensor([[[3.0]]])])
    tensor([14.])
    """
    return torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0)
