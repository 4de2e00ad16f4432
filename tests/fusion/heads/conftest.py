"""Heads of every kind, and clips for them."""

from __future__ import annotations

import torch
from torch import Tensor

from amr.fusion.heads import Head, HeadShape, heads
from amr.fusion.run_axis.seeds import Draws

NAMES = tuple(name for name, head in heads.items() if head.listed)
DIMS = {
    1: {"audio": 5},
    2: {"audio": 5, "video": 3},
    3: {"audio": 5, "text": 4, "video": 3},
    6: {"a": 3, "b": 2, "c": 4, "d": 3, "e": 5, "f": 2},
}
NUM_CLASSES = 4


def build(
    name: str, num_modalities: int = 2, *, hidden: int = 8, seeds: tuple[int, ...] = (0, 3), **shape: object
) -> Head:
    """A head in float64, with biases and scales moved off their initial constants."""
    head = heads[name](HeadShape(DIMS[num_modalities], NUM_CLASSES, hidden, **shape), Draws(seeds)).double()
    noise = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter += 0.1 * torch.randn(parameter.shape[1:], generator=noise, dtype=torch.float64)
    return head


def make_z(
    num_modalities: int = 2, *, num_runs: int = 2, num_clips: int = 7, steps: int | None = None
) -> dict[str, Tensor]:
    """Random z of each modality, in float64."""
    draws = torch.Generator().manual_seed(1)
    inner = () if steps is None else (steps,)
    return {
        m: torch.randn(num_runs, num_clips, *inner, dim, generator=draws, dtype=torch.float64)
        for m, dim in DIMS[num_modalities].items()
    }


def with_steps(num_modalities: int = 2) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """z with up to 5 steps, except for the last modality, which has none; and the number of steps of each clip."""
    z = make_z(num_modalities, steps=5)
    last = list(z)[-1]
    num_steps = {m: torch.tensor([5, 1, 3, 2, 5, 4, 1]) for m in z}
    for m, value in z.items():
        value[:, torch.arange(5) >= num_steps[m][:, None]] = 0
    return z | {last: z[last][:, :, 0].clone()}, num_steps


def all_present(z: dict[str, Tensor]) -> Tensor:
    """Mask of clips that have every modality, bool `(run, batch, modalities)`."""
    first = next(iter(z.values()))
    return torch.ones(*first.shape[:2], len(z), dtype=torch.bool)


def linear(layer: torch.nn.Module, run: int) -> torch.nn.Linear:
    """One run of a StackedLinear as an nn.Linear."""
    weight = layer.weight[run].detach()
    layer_of_run = torch.nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
    layer_of_run.load_state_dict({"weight": weight, "bias": layer.bias[run].detach()})
    return layer_of_run
