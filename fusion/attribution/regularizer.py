"""The attribution regularizer (paper, eq. 1): how far the shares are from the ratio asked for."""

from __future__ import annotations

from torch import Tensor

from amr.fusion.attribution.gradients import mean_share


def regularization(share: Tensor, counted: Tensor, ratio: Tensor) -> Tensor:
    """R = sum_m | mean share of m - r_m |, one value for each of the leading axes.

    Args:
        share: `(..., clips, modalities)`, with its graph where R is to train.
        counted: bool `(..., clips)`: the clips that have shares. Where none has, R is 0.
        ratio: `(..., modalities)`, summing to 1.

    >>> import torch
    >>> regularization(torch.tensor([[0.75, 0.25]]), torch.tensor([True]), torch.tensor([0.5, 0.5]))
    tensor(0.5000)
    """
    any_counted = counted.any(-1, keepdim=True)
    # masked, not multiplied: the mean over no clip is NaN, and 0 * NaN would stay NaN
    distance = (mean_share(share, counted | ~any_counted) - ratio).masked_fill(~any_counted, 0)
    return distance.abs().sum(-1)
