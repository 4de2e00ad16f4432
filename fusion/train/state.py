"""The state of a training after an epoch: all that the next epoch depends on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from amr.fusion.methods.base import Method
from amr.fusion.model import FusionModel
from amr.fusion.run_axis.seeds import Noise
from amr.fusion.train.best import Best
from amr.fusion.train.embedding_noise import EmbeddingNoise, EncodingNoise
from amr.fusion.train.recipe import Member, Recipe
from amr.fusion.train.step import OptimizerStep


class TrainingState:
    """State of a training after an epoch: everything that the next epoch depends on."""

    def __init__(
        self,
        recipe: Recipe,
        members: Sequence[Member],
        model: FusionModel,
        method: Method,
        has_val: bool,
        index_device: torch.device,
        noise: EmbeddingNoise | EncodingNoise | None = None,
    ) -> None:
        self.model, self.method = model, method
        self.step = OptimizerStep(recipe, members, model, method.loss, method, noise)
        weight = self.step.weight * recipe.attributor.chooses_epoch
        self.best = Best(model, recipe.select if has_val else "last", weight, recipe.task)
        self.order = Noise([member.seed for member in members], index_device, "batches")
        self.diverged = torch.zeros(len(members), dtype=torch.bool, device=weight.device)
        self.history: list[dict[str, Tensor]] = []

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    def over(self, recipe: Recipe) -> bool:
        """Whether training has ended: all epochs done, no improvement for `patience` epochs, or all runs diverged."""
        patience = recipe.patience
        waited = patience is not None and self.epoch - int(self.best.epoch.max()) >= patience
        return self.epoch >= recipe.epochs or bool(self.diverged.all()) or (self.epoch > 0 and waited)

    def add(self, epoch_values: dict[str, Tensor], finite: Tensor) -> None:
        """Add a finished epoch."""
        self.diverged |= ~finite
        self.history.append(epoch_values)
        self.best.update(self.epoch, epoch_values, ~self.diverged)

    def dump(self) -> dict[str, Any]:
        """Everything that `load` needs. A method rebuilds its fixed parts (such as teachers) when it is constructed."""
        return {
            "model": self.model.state_dict(),
            "method": [parameter.detach() for parameter in self.method.parameters()],
            "method_state": self.method.state(),
            "optimizers": [optimizer.state_dict() for optimizer in self.step.optimizers],
            "best": self.best.state(),
            "order": self.order.state(),
            "noise": self.method.context.noise.state(),
            **{name: stream.state() for name, stream in self._streams().items()},
            "diverged": self.diverged,
            "history": self.history,
        }

    def _streams(self) -> dict[str, Noise]:
        """Streams of random numbers that the step draws from."""
        step = self.step
        streams = {"partners": step.partners, "embedding_noise": None if step.noise is None else step.noise.noise}
        return {name: stream for name, stream in streams.items() if stream is not None}

    def load(self, state: dict[str, Any] | None) -> None:
        """Restore a state that `dump` returned; None for the start."""
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        with torch.no_grad():
            for parameter, value in zip(self.method.parameters(), state["method"], strict=True):
                parameter.copy_(value)
        self.method.load(state.get("method_state", {}))  # checkpoints of version 0.1 have none
        for optimizer, value in zip(self.step.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(value)
        self.best.load(state["best"])
        self.order.load(state["order"])
        self.method.context.noise.load(state["noise"])
        for name, stream in self._streams().items():
            stream.load(state[name])
        self.diverged = state["diverged"].to(self.diverged.device)
        self.history = [{k: v.to(self.diverged.device) for k, v in h.items()} for h in state["history"]]
