"""Alternating uni-modal adaptation (Zhang et al. 2024, MLA): projection of gradients, and weights of answers."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def updated_projection(projection: Tensor, mean: Tensor, damping: float) -> Tensor:
    """Projection that also leaves out the direction of a mean input, `(..., dim, dim)` (Zeng et al. 2019, OWM).

        P <- P - (P r)(P r)^T / (damping + r^T P r),    then P <- P sqrt(dim) / |P|_F

    The first step is recursive least squares. Alone, it gives (I + sum r r^T / damping)^-1, which would vanish after
    many steps. The second keeps the Frobenius norm of the identity, so that gradients keep their size. If r is 0,
    nothing changes.

    Args:
        projection: Symmetric matrix P, at first the identity.
        mean: Mean input r of a batch, `(..., dim)`.
        damping: Number above 0; the smaller, the more of r is left out.

    >>> gradient = torch.tensor([[1.0, 1.0]])
    >>> projection = updated_projection(torch.eye(2), torch.tensor([2.0, 0.0]), damping=0.01)
    >>> (gradient @ projection).round(decimals=3)
    tensor([[0.0040, 1.4140]])
    """
    k = (projection @ mean.unsqueeze(-1)).squeeze(-1)
    scale = damping + (k * mean).sum(-1)
    updated = projection - k.unsqueeze(-1) * k.unsqueeze(-2) / scale[..., None, None]
    norm = torch.linalg.matrix_norm(updated, keepdim=True)
    return updated * (math.sqrt(projection.shape[-1]) / norm)


def entropy_weights(out: Tensor, present: Tensor | None = None) -> Tensor:
    """Weight of each modality in each clip's answer, `(modalities, ..., clips)`, which sum to 1: the sure one leads.

        w_m = exp(-H_m) / sum_j exp(-H_j),    H_m = entropy of softmax(out_m) in nats

    Args:
        out: Logits of each modality, `(modalities, ..., clips, classes)`.
        present: Bool `(..., clips, modalities)`; the weight of an absent modality is 0. None if all are present; a clip
            that has none is treated as if it had all.

    >>> out = torch.tensor([[[30.0, -30.0]], [[0.0, 0.0]]])
    >>> entropy_weights(out).flatten().round(decimals=3)  # exp(0) and exp(-log 2)
    tensor([0.6670, 0.3330])
    """
    log_p = out.log_softmax(-1)
    score = (log_p.exp() * log_p).sum(-1)  # -H
    if present is not None:
        counted = (present | ~present.any(-1, keepdim=True)).movedim(-1, 0)
        score = score.masked_fill(~counted, -math.inf)
    return score.softmax(0)
