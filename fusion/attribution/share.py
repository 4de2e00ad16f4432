"""From attributions to shares: pool each modality's attribution, divide by the sum (paper, section 3)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from amr.common.registry import unknown
from amr.fusion.choices import POOLINGS


def magnitudes(attributions: Mapping[str, Tensor], pooling: str = "l2", *, clip_axis: int = -2) -> Tensor:
    """`(..., clips, modalities)`: the norm of each modality's attribution, over everything behind `clip_axis`.

    Args:
        attributions: each `(..., clips, dim)`, or `(..., clips, steps, dim)` with `clip_axis` from the front.
        pooling: `l2` or `l1`.
        clip_axis: which axis the clips are on; the norm goes over all axes behind it.
    """
    if pooling not in POOLINGS:
        raise unknown("pooling", pooling, POOLINGS)
    order = 2 if pooling == "l2" else 1
    # vector_norm, not the root of a sum of squares, whose gradient is NaN at zero
    return torch.stack(
        [
            torch.linalg.vector_norm(alpha.flatten(clip_axis % alpha.ndim + 1), ord=order, dim=-1)
            for alpha in attributions.values()
        ],
        dim=-1,
    )


def shares(magnitude: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Each clip's shares and which clips have any.

    Args:
        magnitude: `(..., clips, modalities)`, as `magnitudes` gives.
        present: bool, of the same shape or one that broadcasts to it; None: all are there.

    Returns:
        Shares `(..., clips, modalities)` that sum to 1, 0 for clips left out; bool `(..., clips)`, false for
        clips whose attributions are all zero or that have fewer than two of several modalities.

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
    """`(..., modalities)`: the mean over the clips that count; NaN where none does."""
    return share.sum(-2) / counted.sum(-1, keepdim=True)
