"""Random numbers that belong to a seed and a purpose."""

from __future__ import annotations

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

    def normal(self, *shape: int, std: float) -> nn.Parameter:
        """`(run, *shape)`, normal around 0."""
        return nn.Parameter(torch.stack([torch.empty(shape).normal_(0, std, generator=g) for g in self._generators]))

    def constant(self, *shape: int, value: float) -> nn.Parameter:
        """`(run, *shape)`, the same value everywhere."""
        return nn.Parameter(torch.full((self.num_runs, *shape), value))


class Noise:
    """Random numbers during training: runs of one seed see the same, alone or in a group.

    Args:
        seeds: one a run.
        device: where the numbers go; they are drawn on the CPU, so that devices agree.
        purpose: what they are for; other purposes draw other numbers.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device, purpose: str) -> None:
        distinct = sorted(set(seeds))
        self._generators = [generator(seed, purpose) for seed in distinct]
        self._rows = torch.tensor([distinct.index(seed) for seed in seeds])
        self._device = device

    def uniform(self, *shape: int) -> Tensor:
        """`(run, *shape)`, uniform in [0, 1)."""
        return self._of_runs([torch.rand(shape, generator=g) for g in self._generators])

    def normal(self, *shape: int) -> Tensor:
        """`(run, *shape)`, standard normal."""
        return self._of_runs([torch.randn(shape, generator=g) for g in self._generators])

    def shuffles(self, num_clips: int) -> Tensor:
        """A permutation of the clips for each run, `(run, num_clips)`.

        Where the runs of one seed stand side by side, equally many of each, only one a seed, `(seed, num_clips)`:
        the runs share their batches (`of_runs`).
        """
        draws = [torch.randperm(num_clips, generator=g) for g in self._generators]
        each = len(self._rows) // len(draws)
        if torch.equal(self._rows, torch.arange(len(draws)).repeat_interleave(each)):
            return torch.stack(draws).to(self._device)
        return self._of_runs(draws)

    def state(self) -> list[Tensor]:
        """Where each stream of numbers stands."""
        return [g.get_state() for g in self._generators]

    def load(self, state: Sequence[Tensor]) -> None:
        """Go on from where `state` was called."""
        for g, value in zip(self._generators, state, strict=True):
            g.set_state(value.cpu())

    def _of_runs(self, draws: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(draws))[self._rows].to(self._device)
