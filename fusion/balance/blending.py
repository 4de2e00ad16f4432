"""Gradient blending (Wang et al. 2020): weights of losses from how much each generalized and overfitted."""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST = 1e-8  # least squared overfitting; without it, a loss that did not overfit would get all the weight


def gradient_blending_weights(generalization: Tensor, overfitting: Tensor) -> Tensor:
    """Weights w_k = dG_k / dO_k^2, normalized to sum 1; all `(losses, ...)` (Wang et al. 2020, proposition 1).

    dG is clamped at 0 and dO^2 floored at 1e-8. If no loss generalized, the weights are even.

    Args:
        generalization: Decrease dG_k of the validation loss, from training on loss k alone.
        overfitting: Increase dO_k of validation loss minus training loss.

    >>> gradient_blending_weights(torch.tensor([0.2, 0.1, -1.0]), torch.tensor([0.1, 0.1, 0.5]))
    tensor([0.6667, 0.3333, 0.0000])
    """
    weights = generalization.clamp_min(0) / overfitting.square().clamp_min(SMALLEST)
    total = weights.sum(0)
    return torch.where(total > 0, weights / total.where(total > 0, 1), 1 / len(weights))
