"""Axes of tensors: runs that share their clips, and steps in time."""

from __future__ import annotations

import torch
from torch import Tensor


def of_runs(x: Tensor, num_runs: int) -> Tensor:
    """Repeat each entry for the adjacent runs that share it: `(shared, ...)` to `(run, ...)`.

    >>> of_runs(torch.tensor([[1], [2]]), 4).flatten().tolist()
    [1, 1, 2, 2]
    """
    return x if len(x) == num_runs else x.repeat_interleave(num_runs // len(x), dim=0)


def of_same_runs(x: Tensor, z: Tensor) -> Tensor:
    """One entry of x per entry on the first axis of z, where adjacent runs share their clips and so do entries of x.

    >>> of_same_runs(torch.tensor([1, 1, 2, 2]), torch.zeros(2, 5)).tolist()
    [1, 2]
    """
    return x[:: len(x) // len(z)] if len(x) > len(z) else of_runs(x, len(z))


def at_target(values: Tensor, target: Tensor) -> Tensor:
    """Value of each clip's class: `(..., clips, classes)` and classes `(..., clips)` to `(..., clips)`.

    Leading axes that only the values have share the target.

    Raises:
        ValueError: The clips are not the same.

    >>> at_target(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.tensor([1, 0]))
    tensor([[2., 3.]])
    """
    if values.shape[values.ndim - 1 - target.ndim : -1] != target.shape:
        raise ValueError(
            f"target must be the classes of the same clips as the logits {tuple(values.shape)}, got shape "
            f"{tuple(target.shape)}. Pass one class per clip, (..., clips)."
        )
    return values.gather(-1, target.expand(values.shape[:-1]).unsqueeze(-1)).squeeze(-1)


def log_softmax(logits: Tensor) -> Tensor:
    """Log-softmax over the last axis, `(..., classes)`.

    The classes are first in memory: a CPU works on neighbors, and is ten times as fast if they are not 6 classes.
    """
    return logits.movedim(-1, 0).log_softmax(0).movedim(0, -1)


def step_mask(z: Tensor) -> Tensor:
    """Valid steps: `(..., steps, dim)` to bool `(..., steps)`. Padding is zero in every dimension.

    z contains its mask, so clips can be gathered, permuted, scaled and replaced by zeros without a second tensor.
    """
    return (z != 0).any(-1)


def mean_over_steps(z: Tensor) -> Tensor:
    """Mean over valid steps, `(run, batch, steps, dim)` to `(run, batch, dim)`; z without steps is unchanged.

    >>> mean_over_steps(torch.tensor([[[[1.0, 3.0], [3.0, 1.0], [0.0, 0.0]]]]))
    tensor([[[2., 2.]]])
    """
    return z if z.ndim == 3 else z.sum(2) / step_mask(z).sum(-1, keepdim=True).clamp_min(1)


def take_steps(values: Tensor, num_steps: Tensor | None, *, keep_steps: bool) -> Tensor:
    """Pad `(clips, steps, dim)` with NaN, or average it to `(clips, dim)`; `(clips, dim)` is returned unchanged."""
    if keep_steps and values.ndim == 3 and num_steps is not None:
        return pad_steps(values, num_steps)
    return values if keep_steps else pool_steps(values, num_steps)


def pool_steps(values: Tensor, num_steps: Tensor | None) -> Tensor:
    """Mean over each clip's steps: `(clips, steps, dim)` to `(clips, dim)`, which is returned unchanged."""
    if values.ndim == 2:
        return values
    if num_steps is None:
        num_steps = torch.full((len(values),), values.shape[1])
    total = pad_steps(values.float(), num_steps).nansum(1)
    return total / num_steps.clamp_min(1)[:, None]


def pad_steps(values: Tensor, num_steps: Tensor) -> Tensor:
    """Replace the steps `(clips, steps, dim)` after the first `num_steps`, `(clips,)`, by NaN."""
    padding = torch.arange(values.shape[1]) >= num_steps[:, None]  # (clips, steps)
    return values.masked_fill(padding[..., None], torch.nan)
