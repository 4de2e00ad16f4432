"""What the trainer is told and what it gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.model import FusionModel, ModelShape

if TYPE_CHECKING:
    from amr.fusion.methods.base import Method


@dataclass(frozen=True)
class Recipe:
    """What the runs of a group have in common.

    Args:
        shape, method, options, attributor: what is trained, and how.
        epochs: at most.
        batch_size, optimizer, lr, weight_decay, amr_optimizer, select: as in `FitConfig`.
        lr_step: every so many epochs the learning rate is multiplied by the factor; None: never.
        patience: stop when no run has found a better epoch for so many; None: never.
    """

    shape: ModelShape
    method: type[Method]
    options: Any
    attributor: Attributor
    epochs: int
    batch_size: int
    optimizer: str
    lr: float
    weight_decay: float
    amr_optimizer: str
    select: str
    lr_step: tuple[int, float] | None = None
    patience: int | None = None


@dataclass(frozen=True)
class Member:
    """What a run of a group has of its own.

    Args:
        seed: of weights, batches and noise.
        ratio: target shares, summing to 1; None: no AMR.
        amr_weight: 0: no AMR.
    """

    seed: int
    ratio: tuple[float, ...] | None = None
    amr_weight: float = 0.0

    @property
    def weight(self) -> float:
        """Of the regularizer; 0 where no ratio was asked for."""
        return 0.0 if self.ratio is None else self.amr_weight


def ratios(members: Sequence[Member], model: FusionModel) -> Tensor:
    """`(run, modalities)`: even shares stand in for runs without a ratio."""
    even = (1 / len(model.modalities),) * len(model.modalities)
    return torch.tensor([member.ratio or even for member in members], device=next(model.parameters()).device)
