"""Layers for many runs at once: each parameter has a leading run axis, and runs do not affect each other."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from amr.fusion.run_axis.seeds import Draws


def shared_bmm(x: Tensor, weight: Tensor) -> Tensor:
    """x W^T: `(shared, rows, in)` and `(run, out, in)` to `(run, rows, out)`, one wide product if runs share x."""
    shared, rows, _ = x.shape
    num_runs, out, _ = weight.shape
    if shared == num_runs:
        return torch.bmm(x, weight.mT)
    wide = torch.bmm(x, weight.view(shared, -1, weight.shape[-1]).mT)  # (shared, rows, sharing runs * out)
    return wide.view(shared, rows, -1, out).transpose(1, 2).reshape(num_runs, rows, out)


class StackedLinear(nn.Module):
    """nn.Linear for many runs: `(run, ..., in)` to `(run, ..., out)`, with nn.Linear's initial values."""

    def __init__(self, in_features: int, out_features: int, draws: Draws) -> None:
        super().__init__()
        bound = 1 / math.sqrt(in_features)
        self.weight = draws.uniform(out_features, in_features, bound=bound)  # (run, out, in)
        self.bias = draws.uniform(out_features, bound=bound)  # (run, out)

    def forward(self, x: Tensor) -> Tensor:
        """`(run, ..., in)`, or `(shared, ..., in)` (see `of_runs`), to `(run, ..., out)`."""
        rows = shared_bmm(x.flatten(1, -2), self.weight) + self.bias.unsqueeze(1)
        return rows.view(len(self.weight), *x.shape[1:-1], rows.shape[-1])

    def input_gradient(self, cotangent: Tensor) -> Tensor:
        """Gradient with respect to the input: cotangent `(run, batch, out)` to `(run, batch, in)`."""
        return torch.bmm(cotangent, self.weight)


class StackedLayerNorm(nn.Module):
    """nn.LayerNorm for many runs, over the last axis of `(run, ..., dim)`."""

    def __init__(self, dim: int, draws: Draws) -> None:
        super().__init__()
        self.weight = draws.constant(dim, value=1.0)  # (run, dim)
        self.bias = draws.constant(dim, value=0.0)  # (run, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize `(run, ..., dim)` over its last axis."""
        shape = x.shape[0], *[1] * (x.ndim - 2), x.shape[-1]
        return functional.layer_norm(x, x.shape[-1:]) * self.weight.view(shape) + self.bias.view(shape)
