"""Layers for many runs at once: each parameter has a leading run axis, and no run touches another's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


def generator(seed: int, purpose: str) -> torch.Generator:
    """A stream of random numbers that belongs to a seed and a purpose, on the CPU, so that devices agree."""
    words = np.random.SeedSequence([seed, *purpose.encode()]).generate_state(2)
    return torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)


class Draws:
    """Initial values for the runs of a group: run i draws what it would draw alone.

    Args:
        seeds: one a run.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.num_runs = len(seeds)
        self._generators = [generator(seed, "weights") for seed in seeds]

    def uniform(self, *shape: int, bound: float) -> nn.Parameter:
        """`(run, *shape)`, uniform in [-bound, bound]."""
        return nn.Parameter(
            torch.stack([torch.empty(shape).uniform_(-bound, bound, generator=g) for g in self._generators])
        )


class StackedLinear(nn.Module):
    """nn.Linear for many runs: `(run, batch, in)` to `(run, batch, out)`, with nn.Linear's initial values."""

    def __init__(self, in_features: int, out_features: int, draws: Draws) -> None:
        super().__init__()
        bound = 1 / math.sqrt(in_features)
        self.weight = draws.uniform(out_features, in_features, bound=bound)  # (run, out, in)
        self.bias = draws.uniform(out_features, bound=bound)  # (run, out)

    def forward(self, x: Tensor) -> Tensor:
        """`(run, batch, in)` to `(run, batch, out)`."""
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.mT)

    def pullback(self, cotangent: Tensor) -> Tensor:
        """`(run, batch, out)` to `(run, batch, in)`: the gradient with respect to the input."""
        return torch.bmm(cotangent, self.weight)
