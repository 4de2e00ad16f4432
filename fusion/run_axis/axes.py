"""Axes: runs that share their clips, and steps in time."""

from __future__ import annotations

import torch
from torch import Tensor


def of_runs(x: Tensor, num_runs: int) -> Tensor:
    """`(shared, ...)` to `(run, ...)`: each is seen by as many runs in a row.

    >>> of_runs(torch.tensor([[1], [2]]), 4).flatten().tolist()
    [1, 1, 2, 2]
    """
    return x if len(x) == num_runs else x.repeat_interleave(num_runs // len(x), dim=0)


def step_mask(z: Tensor) -> Tensor:
    """`(..., steps, dim)` to bool `(..., steps)`: which steps are there. Padding is zero in every dimension.

    The mask is in z itself, so that clips can be gathered, permuted, scaled and replaced by zeros without it.
    """
    return (z != 0).any(-1)


def take_steps(values: Tensor, num_steps: Tensor | None, *, keep_steps: bool) -> Tensor:
    """`(clips, steps, dim)` padded with NaN, or averaged to `(clips, dim)`; `(clips, dim)` stays as it is."""
    if keep_steps and values.ndim == 3 and num_steps is not None:
        return pad_steps(values, num_steps)
    return values if keep_steps else pool_steps(values, num_steps)


def pool_steps(values: Tensor, num_steps: Tensor | None) -> Tensor:
    """The mean over each clip's steps: `(clips, steps, dim)` to `(clips, dim)`; `(clips, dim)` stays as it is."""
    if values.ndim == 2:
        return values
    if num_steps is None:
        num_steps = torch.full((len(values),), values.shape[1])
    total = pad_steps(values.float(), num_steps).nansum(1)
    return total / num_steps.clamp_min(1)[:, None]


def pad_steps(values: Tensor, num_steps: Tensor) -> Tensor:
    """`(clips, steps, dim)`, NaN behind the first `num_steps`, `(clips,)`, of each clip, whatever was there."""
    behind = torch.arange(values.shape[1]) >= num_steps[:, None]  # (clips, steps)
    return values.masked_fill(behind[..., None], torch.nan)
