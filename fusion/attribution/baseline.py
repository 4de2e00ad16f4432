"""Mean of z over clips, as the baseline that stands for an absent modality."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from amr.fusion.run_axis.axes import of_runs, step_mask


def mean_encoding(chunks: Iterable[tuple[Mapping[str, Tensor], Tensor]]) -> dict[str, Tensor]:
    """Mean of each modality over the clips that have it and their steps, `(..., dim)`; 0 if no clip has it.

    Args:
        chunks: Pairs of z, each `(..., clips, dim)` or `(..., clips, steps, dim)`, and present, bool
            `(..., clips, modalities)`; `...` is the run axis, if there is one.
    """
    totals: dict[str, Tensor] = {}
    counts: dict[str, Tensor] = {}
    dtypes: dict[str, torch.dtype] = {}
    for z, present in chunks:
        clip_axis = present.ndim - 2
        for i, (m, value) in enumerate(z.items()):
            value = of_runs(value, len(present)) if clip_axis > 0 else value
            weight = _weight(value, present[..., i])
            axes = tuple(range(clip_axis, value.ndim - 1))
            total, count = (value * weight).sum(axes, dtype=torch.double), weight.sum(axes, dtype=torch.double)
            totals[m] = totals[m] + total if m in totals else total
            counts[m] = counts[m] + count if m in counts else count
            dtypes[m] = value.dtype
    return {m: (totals[m] / counts[m].clamp_min(1)).to(dtypes[m]) for m in totals}


def baseline_values(mean: Mapping[str, Tensor], z: Mapping[str, Tensor], present: Tensor) -> dict[str, Tensor]:
    """The baseline of each modality, broadcast to its z: the mean, and 0 at padded steps and at steps of absent clips.

    Args:
        mean: Modality to its mean, `(..., dim)`, or `(dim,)` for every run.
        z: Modality to its encoding, `(..., clips, dim)` or `(..., clips, steps, dim)`.
        present: Bool `(..., clips, modalities)`.
    """
    result = {}
    for i, (m, value) in enumerate(z.items()):
        num_axes = value.ndim - present.ndim + 1  # of clips, and of steps if there are any
        values = mean[m].to(value).view(*mean[m].shape[:-1], *[1] * num_axes, mean[m].shape[-1])
        result[m] = values if value.ndim == present.ndim else values * _weight(value, present[..., i])
    return result


def _weight(value: Tensor, present: Tensor) -> Tensor:
    """1 for clips that have the modality, `(..., clips, 1)`, or for their steps, `(..., clips, steps, 1)`; else 0."""
    if value.ndim > present.ndim + 1:
        present = present.view(*present.shape, *[1] * (value.ndim - present.ndim - 1)) & step_mask(value)
    return present.unsqueeze(-1).to(value.dtype)
