"""Settings of a training: those that a group shares, and those of each run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.choices import MOMENTUM
from amr.fusion.model import FusionModel, ModelShape
from amr.fusion.tasks import Task
from amr.fusion.tasks.multiclass import MULTICLASS

if TYPE_CHECKING:
    from amr.fusion.methods.base import Method


@dataclass(frozen=True)
class Recipe:
    """Settings that the runs of a group have in common.

    Args:
        shape: Shape of the model.
        method: Training method.
        options: The method's own options.
        attributor: Attribution that is regularized.
        epochs: Largest number of epochs.
        batch_size, optimizer, lr, weight_decay, amr_optimizer, select: As in `FitConfig`.
        lr_step: Number of epochs after which the learning rate is multiplied, and the factor; None for never.
        momentum: Momentum of SGD.
        amr_level: What R balances: batch or clip.
        embedding_noise: Deviation of the noise on each modality's embeddings, in units of the train deviation; () for
            none.
        task: What is predicted, with the weights of its classes.
        patience: Number of epochs without a better one, in any run, after which training stops; None for never.
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
    momentum: float = MOMENTUM
    patience: int | None = None
    amr_level: str = "batch"
    embedding_noise: tuple[float, ...] = ()
    task: Task = MULTICLASS


@dataclass(frozen=True)
class Member:
    """Settings of one run of a group.

    Args:
        seed: Seed of weights, batches and noise.
        ratio: Target shares, which sum to 1; None for no AMR.
        amr_weight: Weight of the regularizer; 0 is off.
    """

    seed: int
    ratio: tuple[float, ...] | None = None
    amr_weight: float = 0.0

    @property
    def weight(self) -> float:
        """Weight of the regularizer; 0 without a ratio."""
        return 0.0 if self.ratio is None else self.amr_weight


def ratios(members: Sequence[Member], model: FusionModel) -> Tensor:
    """Target shares of each run, `(run, modalities)`; even shares for runs without a ratio."""
    even = (1 / len(model.modalities),) * len(model.modalities)
    return torch.tensor([member.ratio or even for member in members], device=next(model.parameters()).device)
