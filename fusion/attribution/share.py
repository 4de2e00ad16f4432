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
    if present is not None:
        magnitude = magnitude.masked_fill(~present, 0)
    counted = torch.isfinite(magnitude).all(-1) & (magnitude.sum(-1) > 0)
    if present is not None:
        enough = present.sum(-1) >= min(2, magnitude.shape[-1])
        counted = counted & enough
    total = magnitude.sum(-1, keepdim=True).masked_fill(~counted[..., None], 1)
    return (magnitude / total).masked_fill(~counted[..., None], 0), counted


def mean_share(share: Tensor, counted: Tensor) -> Tensor:
    """Mean over the clips with a defined share, `(..., modalities)`; NaN if there are none."""
    return share.sum(-2) / counted.sum(-1, keepdim=True)
