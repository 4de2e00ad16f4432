"""Optimizers, by the functions that torch's own classes call: equal to the bit, but they import no compiler."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.adamax import adamax
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from amr.fusion.choices import MOMENTUM

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8  # torch's defaults of Adam, AdamW and Adamax


class Optimizer(ABC):
    """An optimizer with torch's layout of `state` and `param_groups`.

    Args:
        parameters: Parameters; their `grad` is read by `step`. As in torch, one whose `grad` is None is left as it is.
        lr: Learning rate.
        weight_decay: Weight decay.
        momentum: Momentum of SGD; the others have none of their own.
    """

    names: ClassVar[tuple[str, ...]]  # of the state of a parameter; "step" is a number

    def __init__(
        self, parameters: Sequence[Tensor], lr: float, weight_decay: float, momentum: float = MOMENTUM
    ) -> None:
        self.param_groups: list[dict[str, Any]] = [{"params": list(parameters), "lr": lr}]
        self.state: dict[Tensor, dict[str, Tensor]] = {}
        self.weight_decay, self.momentum = weight_decay, momentum
        self.on_gpu = parameters[0].is_cuda  # what a recorded step needs, and only a GPU has

    @abstractmethod
    def _update(self, parameters: list[Tensor], gradients: list[Tensor], lr: float, state: list[list[Tensor]]) -> None:
        """Update parameters and state in place; `state` has a list for each of `names`."""

    @torch.no_grad()
    def step(self) -> None:
        """Take one step by the gradients."""
        every = self.param_groups[0]["params"]
        if not self.state:
            self.state = {parameter: self._start(parameter) for parameter in every}
        parameters = [parameter for parameter in every if parameter.grad is not None]
        if not parameters:
            return
        state = [[self.state[each][name] for each in parameters] for name in self.names]
        gradients = [parameter.grad for parameter in parameters]
        self._update(parameters, gradients, self.param_groups[0]["lr"], state)

    def _start(self, parameter: Tensor) -> dict[str, Tensor]:
        steps = torch.zeros((), dtype=torch.float32, device=parameter.device)
        return {name: steps if name == "step" else torch.zeros_like(parameter) for name in self.names}

    def state_dict(self) -> dict[str, Any]:
        """State by the number of the parameter, and the learning rate."""
        parameters = self.param_groups[0]["params"]
        return {
            "state": {i: dict(self.state[each]) for i, each in enumerate(parameters) if each in self.state},
            "param_groups": [{"lr": self.param_groups[0]["lr"], "params": [*range(len(parameters))]}],
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        parameters = self.param_groups[0]["params"]
        self.param_groups[0]["lr"] = saved["param_groups"][0]["lr"]
        self.state = {
            parameters[i]: {name: value.to(parameters[i].device, copy=True) for name, value in each.items()}
            for i, each in saved["state"].items()
        }


class AdamW(Optimizer):
    """`torch.optim.AdamW(..., fused=True)`."""

    names = ("exp_avg", "exp_avg_sq", "step")
    function = staticmethod(adamw)

    def _update(self, parameters: list[Tensor], gradients: list[Tensor], lr: float, state: list[list[Tensor]]) -> None:
        averages, squares, steps = state
        self.function(
            *(parameters, gradients, averages, squares, [], steps),
            fused=True,
            capturable=self.on_gpu,
            amsgrad=False,
            beta1=BETA1,
            beta2=BETA2,
            lr=lr,
            weight_decay=self.weight_decay,
            eps=EPS,
            maximize=False,
        )


class Adam(AdamW):
    """`torch.optim.Adam(..., fused=True)`, whose weight decay is part of the gradient."""

    function = staticmethod(adam)


class Adamax(Optimizer):
    """`torch.optim.Adamax`."""

    names = ("exp_avg", "exp_inf", "step")

    def _update(self, parameters: list[Tensor], gradients: list[Tensor], lr: float, state: list[list[Tensor]]) -> None:
        averages, largest, steps = state
        adamax(
            *(parameters, gradients, averages, largest, steps),
            capturable=self.on_gpu,
            beta1=BETA1,
            beta2=BETA2,
            lr=lr,
            weight_decay=self.weight_decay,
            eps=EPS,
        )


class SGD(Optimizer):
    """`torch.optim.SGD` with momentum."""

    names = ("momentum_buffer",)

    def _update(self, parameters: list[Tensor], gradients: list[Tensor], lr: float, state: list[list[Tensor]]) -> None:
        buffers: list[Tensor | None] = [*state[0]]
        sgd(
            *(parameters, gradients, buffers),
            lr=lr,
            momentum=self.momentum,
            dampening=0.0,
            weight_decay=self.weight_decay,
            nesterov=False,
            maximize=False,
        )


OPTIMIZERS: dict[str, type[AdamW | Adam | Adamax | SGD]] = {
    "adamw": AdamW,
    "adam": Adam,
    "adamax": Adamax,
    "sgd": SGD,
}
