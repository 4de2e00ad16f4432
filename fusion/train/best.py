"""Which epoch of a run is kept."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from amr.fusion.model import FusionModel


class Best:
    """Each run's weights at its best epoch so far, by what it trains for: a gain on val less amr_weight * R on val.

    The gain is the accuracy, the lower loss breaking ties, or minus the loss. A choice by accuracy alone would keep
    early epochs, before the shares have moved (docs/decisions/0003).
    """

    def __init__(self, model: FusionModel, select: str, weight: Tensor) -> None:
        self.select, self.weight = select, weight
        self._model = model
        self._score = torch.full_like(weight, -torch.inf)
        self._loss = torch.full_like(weight, torch.inf)
        self._epoch = torch.zeros_like(weight, dtype=torch.long)
        self._weights = [tensor.clone() for tensor in model.state_dict().values()]

    @property
    def epoch(self) -> Tensor:
        """`(run,)`: the best so far, counted from 1; 0 before the first."""
        return self._epoch

    def update(self, epoch: int, epoch_values: dict[str, Tensor], finite: Tensor) -> None:
        """Keep the weights of the runs that are better now; a run that is not finite never is."""
        loss = epoch_values["val_loss"]
        score = (-loss if self.select == "loss" else epoch_values["val_accuracy"]) - self.weight * epoch_values[
            "val_regularization"
        ]
        if self.select == "last":
            better = torch.ones_like(self._epoch, dtype=torch.bool)
        else:
            better = (score > self._score) | ((score == self._score) & (loss < self._loss))
        better = better & finite
        self._score = torch.where(better, score, self._score)
        self._loss = torch.where(better, loss, self._loss)
        self._epoch = torch.where(better, epoch, self._epoch)
        for kept, now in zip(self._weights, self._model.state_dict().values(), strict=True):
            kept.copy_(torch.where(better.view(-1, *[1] * (kept.ndim - 1)), now, kept))

    def restore(self, model: FusionModel) -> None:
        """Give the model the kept weights."""
        model.load_state_dict(dict(zip(model.state_dict(), self._weights, strict=True)))

    def state(self) -> list[Tensor]:
        """What `load` needs."""
        return [self._score, self._loss, self._epoch, *self._weights]

    def load(self, state: Sequence[Tensor]) -> None:
        """Stand where `state` was called."""
        mine = [self._score, self._loss, self._epoch, *self._weights]
        for tensor, value in zip(mine, state, strict=True):
            tensor.copy_(value)
