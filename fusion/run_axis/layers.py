"""Layers for many runs at once: each parameter has a leading run axis, and runs do not affect each other."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from amr.fusion.run_axis.seeds import Draws


def stacked_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b: `(shared, rows, in)`, `(run, out, in)` and `(run, out)`, or no b, to `(run, rows, out)`.

    Computed as W x^T, one wide product for all runs that share x. So nothing is copied, and the gradient of a weight
    comes in the weight's own layout.
    """
    shared = len(x)
    joined = weight.reshape(shared, -1, weight.shape[-1])
    wide = torch.bmm(joined, x.mT) if bias is None else torch.baddbmm(bias.view(shared, -1, 1), joined, x.mT)
    return wide.view(*weight.shape[:2], -1).mT


class StackedProjection(nn.Module):
    """nn.Linear without a bias for many runs: `(run, ..., in)` to `(run, ..., out)`, with its initial values."""

    def __init__(self, in_features: int, out_features: int, draws: Draws) -> None:
        super().__init__()
        self.weight = draws.uniform(out_features, in_features, bound=1 / math.sqrt(in_features))  # (run, out, in)

    def forward(self, x: Tensor) -> Tensor:
        """`(run, ..., in)`, or `(shared, ..., in)` (see `of_runs`), to `(run, ..., out)`."""
        return stacked_linear(x.flatten(1, -2), self.weight).unflatten(1, x.shape[1:-1])

    def input_gradient(self, cotangent: Tensor) -> Tensor:
        """Gradient with respect to the input: cotangent `(run, batch, out)` to `(run, batch, in)`."""
        return torch.bmm(self.weight.mT, cotangent.mT).mT


class StackedLinear(StackedProjection):
    """nn.Linear for many runs: `(run, ..., in)` to `(run, ..., out)`, with nn.Linear's initial values."""

    def __init__(self, in_features: int, out_features: int, draws: Draws) -> None:
        super().__init__(in_features, out_features, draws)
        self.bias = draws.uniform(out_features, bound=1 / math.sqrt(in_features))  # (run, out)

    def forward(self, x: Tensor) -> Tensor:
        """`(run, ..., in)`, or `(shared, ..., in)` (see `of_runs`), to `(run, ..., out)`."""
        rows = stacked_linear(x.flatten(1, -2), self.weight, self.bias)
        return rows.unflatten(1, x.shape[1:-1])


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
