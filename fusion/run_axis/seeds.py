"""Random numbers that depend on a seed and a purpose."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from amr.common.devices import upload

BLOCKS_PER_WINDOW = 1024  # of adjacent clips
DRAWN_TOGETHER = 16  # normal numbers in PyTorch on a CPU


def generator(seed: int, purpose: str) -> torch.Generator:
    """Stream of random numbers for a seed and a purpose. It is on the CPU, so that all devices get the same numbers."""
    words = np.random.SeedSequence([seed, *purpose.encode()]).generate_state(2)
    return torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)


def in_blocks(num_clips: int, block: int, draws: torch.Generator) -> Tensor:
    """Permutation `(num_clips,)` in which clips that are drawn soon after each other come from few places of a file.

    Blocks of adjacent clips are shuffled, then the clips of every `BLOCKS_PER_WINDOW` blocks.

    >>> in_blocks(6, 1, generator(0, "order")).equal(torch.randperm(6, generator=generator(0, "order")))
    True
    """
    window = block * BLOCKS_PER_WINDOW
    if window >= num_clips:
        return torch.randperm(num_clips, generator=draws)
    firsts = torch.randperm(-(-num_clips // block), generator=draws) * block
    order = (firsts[:, None] + torch.arange(block)).flatten()
    order = order[order < num_clips]
    return torch.cat([part[torch.randperm(len(part), generator=draws)] for part in order.split(window)])


def normal_chunks(shape: Sequence[int], step: int, draws: torch.Generator) -> Iterator[Tensor]:
    """`torch.randn(shape, generator=draws)` in chunks of `step` rows, the same to the bit.

    PyTorch draws 16 numbers together, and the last 16 once more if the numbers are no multiple of 16. So each chunk but
    the last is drawn up to such a multiple, and what it does not need is left for the next one.
    """
    num_rows, row_shape = shape[0], shape[1:]
    width = math.prod(row_shape)
    to_draw, drawn = num_rows * width, torch.empty(0)
    for start in range(0, num_rows, step):
        size = min(step, num_rows - start) * width
        number = max(0, -(-(size - len(drawn)) // DRAWN_TOGETHER) * DRAWN_TOGETHER)
        number = to_draw if to_draw - number < DRAWN_TOGETHER else number
        drawn = torch.cat([drawn, torch.randn(number, generator=draws)])
        to_draw -= number
        yield drawn[:size].view(-1, *row_shape)
        drawn = drawn[size:]


class Draws:
    """Initial values for a run group. Each run gets the values that it would get in a group of its own.

    Args:
        seeds: Seed of each run.
        purpose: Name of the stream; each purpose has its own numbers.
    """

    def __init__(self, seeds: Sequence[int], purpose: str = "weights") -> None:
        self.num_runs = len(seeds)
        self._generators = [generator(seed, purpose) for seed in seeds]

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
    """Random numbers during training. Runs with the same seed get the same numbers, in any group.

    Args:
        seeds: Seed of each run.
        device: Device of the results. Numbers are drawn on the CPU, so that all devices get the same.
        purpose: Name of the stream; each purpose has its own numbers.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device, purpose: str) -> None:
        distinct = sorted(set(seeds))
        self._generators = [generator(seed, purpose) for seed in distinct]
        self._rows = torch.tensor([distinct.index(seed) for seed in seeds])
        self._device = device

    def uniform(self, *shape: int) -> Tensor:
        """Uniform random numbers in [0, 1), `(run, *shape)`."""
        return self._of_runs([torch.rand(shape, generator=g) for g in self._generators])

    def normal(self, *shape: int) -> Tensor:
        """Standard normal random numbers, mean 0 and standard deviation 1, `(run, *shape)`."""
        return self._of_runs([torch.randn(shape, generator=g) for g in self._generators])

    def shuffles(self, num_clips: int, block: int | None = None) -> Tensor:
        """Permutation of the clips for each run, `(run, num_clips)`.

        If runs with the same seed are adjacent, with equally many runs per seed, there is one permutation per seed,
        `(seed, num_clips)`: these runs share their batches (`of_runs`).

        Args:
            num_clips: Number of clips.
            block: Number of adjacent clips that are drawn soon after each other, as in `in_blocks`; None for any order.
        """
        draws = [in_blocks(num_clips, num_clips if block is None else block, g) for g in self._generators]
        runs_per_seed = len(self._rows) // len(draws)
        if torch.equal(self._rows, torch.arange(len(draws)).repeat_interleave(runs_per_seed)):
            return upload(torch.stack(draws), self._device)
        return self._of_runs(draws)

    def state(self) -> list[Tensor]:
        """State of each stream."""
        return [g.get_state() for g in self._generators]

    def load(self, state: Sequence[Tensor]) -> None:
        """Return to the state that `state` gave."""
        for g, value in zip(self._generators, state, strict=True):
            g.set_state(value.cpu())

    def _of_runs(self, draws: Sequence[Tensor]) -> Tensor:
        return upload(torch.stack(list(draws))[self._rows], self._device)
