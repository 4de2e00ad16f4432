"""Choose each run's best epoch, by val."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from amr.fusion.model import FusionModel
from amr.fusion.tasks import Task
from amr.fusion.tasks.multiclass import MULTICLASS


class Best:
    """Weights of each run at its best epoch so far.

    The score is the training objective on val: accuracy (or minus the loss) minus amr_weight * R. Equal scores are
    decided by the lower loss. Accuracy alone would select early epochs, before the shares have moved
    (docs/decisions/0003). Tasks have scores of their own in place of accuracy: mAP, or minus the mean absolute error.

    Args:
        model: Model whose weights are copied.
        select: Selection rule: accuracy, loss, or last.
        weight: Weight of R in the score of each run, `(run,)`: amr_weight, or 0 if the attribution does not count.
        task: Task, for its score.
    """

    def __init__(self, model: FusionModel, select: str, weight: Tensor, task: Task = MULTICLASS) -> None:
        self.select, self.weight = select, weight
        self._column, self._sign = f"val_{task.score.name}", -1 if task.score.least_is_best else 1
        self._model = model
        self._score = torch.full_like(weight, -torch.inf)
        self._loss = torch.full_like(weight, torch.inf)
        self._epoch = torch.zeros_like(weight, dtype=torch.long)
        self._weights = [tensor.clone() for tensor in model.state_dict().values()]

    @property
    def epoch(self) -> Tensor:
        """Best epoch of each run so far, `(run,)`, counted from 1; 0 before the first."""
        return self._epoch

    def update(self, epoch: int, epoch_values: dict[str, Tensor], finite: Tensor) -> None:
        """Copy the weights of the runs that improved. A run that is not finite never improves."""
        loss = epoch_values["val_loss"]
        gain = -loss if self.select == "loss" else self._sign * epoch_values[self._column]
        score = gain - self.weight * epoch_values["val_regularization"]
        if self.select == "last":
            better = torch.ones_like(self._epoch, dtype=torch.bool)
        else:
            better = (score > self._score) | ((score == self._score) & (loss < self._loss))
        better = better & finite
        self._score = torch.where(better, score, self._score)
        self._loss = torch.where(better, loss, self._loss)
        self._epoch = torch.where(better, epoch, self._epoch)
        for best, now in zip(self._weights, self._model.state_dict().values(), strict=True):
            best.copy_(torch.where(better.view(-1, *[1] * (best.ndim - 1)), now, best))

    def restore(self, model: FusionModel) -> None:
        """Load the best weights into the model."""
        model.load_state_dict(dict(zip(model.state_dict(), self._weights, strict=True)))

    def state(self) -> list[Tensor]:
        """Tensors that `load` needs."""
        return [self._score, self._loss, self._epoch, *self._weights]

    def load(self, state: Sequence[Tensor]) -> None:
        """Restore the tensors that `state` returned."""
        mine = [self._score, self._loss, self._epoch, *self._weights]
        for tensor, value in zip(mine, state, strict=True):
            tensor.copy_(value)
