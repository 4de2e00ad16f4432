"""From attributions to shares: pool each modality's attribution and divide by the sum (paper, section 3)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from amr.common.registry import unknown
from amr.fusion.choices import POOLINGS


def magnitudes(attributions: Mapping[str, Tensor], pooling: str = "l2", *, clip_axis: int = -2) -> Tensor:
    """Norm of each modality's attribution, `(..., clips, modalities)`.

    Args:
        attributions: Modality to its attribution, `(..., clips, dim)` or `(..., clips, steps, dim)`.
        pooling: Norm: l2 or l1.
        clip_axis: Axis of the clips; the default fits if no modality has steps. The norm is over all axes after it.
    """
    if pooling not in POOLINGS:
        raise unknown("pooling", pooling, POOLINGS)
    order = 2 if pooling == "l2" else 1
    # vector_norm, not the root of a sum of squares, whose gradient is NaN at zero
    return torch.stack(
        [
            torch.linalg.vector_norm(each.flatten(clip_axis % each.ndim + 1), ord=order, dim=-1)
            for each in attributions.values()
        ],
        dim=-1,
    )


def shares(magnitude: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Shares of each clip, and the clips with a defined share.

    Args:
        magnitude: Magnitudes `(..., clips, modalities)`.
        present: Bool that broadcasts to `magnitude`; None if every clip has every modality.

    Returns:
        Shares `(..., clips, modalities)`, which sum to 1, or are 0 if undefined; bool `(..., clips)`: whether the
        share is defined. It is undefined if the clip's attributions are all zero or not finite, or if the clip has
        fewer than two of several modalities.

    >>> shares(torch.tensor([[3.0, 1.0], [0.0, 0.0]]))
    (tensor([[0.7500, 0.2500],
            [0.0000, 0.0000]]), tensor([ True, False]))
    """
    magnitude, counted = counted_magnitudes(magnitude, present)
    total = magnitude.sum(-1, keepdim=True).masked_fill(~counted[..., None], 1)
    return magnitude / total, counted


def counted_magnitudes(magnitude: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Magnitudes, 0 for absent modalities and for clips without a share, and the clips with one, as for `shares`."""
    values = magnitude.detach()
    total = (values if present is None else values.masked_fill(~present, 0)).sum(-1)
    counted = (total > 0) & (total < torch.inf)  # neither for NaN
    if present is None:
        return magnitude.masked_fill(~counted[..., None], 0), counted
    counted = counted & (present.sum(-1) >= min(2, magnitude.shape[-1]))
    return magnitude.masked_fill(~(counted[..., None] & present), 0), counted


def mean_share(share: Tensor, counted: Tensor, *, of_sums: bool = False) -> Tensor:
    """Share of a batch or a split, `(..., modalities)`: the mean over clips; NaN if no clip has a share.

    Args:
        share: Shares `(..., clips, modalities)`, 0 where undefined.
        counted: Bool `(..., clips)`: the clips with a defined share.
        of_sums: Whether `share` is not normalized per clip; the result is then a ratio of sums over clips.

    >>> mean_share(torch.tensor([[3.0, 1.0], [0.0, 4.0]]), torch.tensor([True, True]), of_sums=True)
    tensor([0.3750, 0.6250])
    """
    total = share.sum(-2)
    return total / (total.sum(-1, keepdim=True) if of_sums else counted.sum(-1, keepdim=True))
