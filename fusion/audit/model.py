"""A model of any kind as a function of its inputs, with checked outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from amr.fusion.attribution.any_head.call import check_logits
from amr.fusion.attribution.tap.logits import Which, select_logits
from amr.fusion.audit.batches import caller
from amr.fusion.audit.values import tensors_of
from amr.fusion.tasks import Task


class AnyModel:
    """A model of any kind as a function of its inputs that returns checked outputs, `(batch, outputs)`.

    One logit of a task with classes is a binary decision, sigmoid(x): it becomes the logits (-x/2, x/2) of two classes.
    Numbers may be `(batch,)` or `(batch, 1)`.

    Args:
        model: Module or function.
        inputs: Inputs of the first batch, which decide how it is called.
        logits: Which output holds the logits, or the numbers, as for `amr.tap`.
        device: Device of the inputs; None for that of the model.
        task: Task of the model.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        inputs: Any,
        logits: Which,
        device: torch.device | str | None,
        task: Task,
    ) -> None:
        self._call, self._which, self.task = caller(model, inputs), logits, task
        parameters = [*model.parameters()] if isinstance(model, nn.Module) else []
        own = parameters[0].device if parameters else torch.device("cpu")
        self.device = own if device is None else _available(device)

    def __call__(self, inputs: Any) -> Tensor:
        """Outputs of a batch."""
        outputs = select_logits(self._call(inputs), self._which)
        if self.task.name == "regression":
            return _numbers(outputs, _length(inputs))
        if self.task.one_class and tuple(outputs.shape) == (_length(inputs),):
            raise ValueError(
                f"model must return logits (batch, classes), got {tuple(outputs.shape)}. "
                'Pass task="regression" for a number per clip; for a binary decision, return logits.unsqueeze(-1).'
            )
        check_logits(outputs, (_length(inputs),))
        if outputs.ndim != 2:
            raise ValueError(
                f"model must return logits (batch, classes), got {tuple(outputs.shape)}. "
                "Pass logits= with a function that takes the mean over positions."
            )
        if not bool(torch.isfinite(outputs).all()):
            raise ValueError("model must return finite logits, got NaN or infinity. Look at the inputs and weights.")
        is_binary = self.task.one_class and outputs.shape[-1] == 1
        return torch.cat([-outputs / 2, outputs / 2], dim=-1) if is_binary else outputs

    def on_device(self, inputs: Any) -> Any:
        """Inputs on the device; values that are no tensors stay as they are."""
        if isinstance(inputs, Tensor):
            return inputs.to(self.device)
        if isinstance(inputs, Mapping):
            return {name: self.on_device(value) for name, value in inputs.items()}
        return type(inputs)(map(self.on_device, inputs)) if isinstance(inputs, tuple | list) else inputs


def _available(device: torch.device | str) -> torch.device:
    """Device by its name.

    Raises:
        ValueError: There is no such device, or not here.
    """
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError, ValueError):  # each kind of device has its own
        raise ValueError(
            f'device must be available, got {str(device)!r}. Pass device="cpu", or leave it out for that of the model.'
        ) from None
    return found


def _numbers(outputs: Tensor, num_clips: int) -> Tensor:
    if tuple(outputs.shape) not in ((num_clips,), (num_clips, 1)) or not outputs.is_floating_point():
        raise ValueError(
            f'model must return one floating-point number per clip, (batch,) or (batch, 1), for task="regression", got '
            f"{outputs.dtype} {tuple(outputs.shape)}. Pass logits= with the place of the number, or a function of the "
            "output."
        )
    if not bool(torch.isfinite(outputs).all()):
        raise ValueError("model must return finite numbers, got NaN or infinity. Look at the inputs and weights.")
    return with_outputs_last(outputs)


def with_outputs_last(outputs: Tensor) -> Tensor:
    """Outputs `(batch, outputs)`; numbers `(batch,)` become `(batch, 1)`."""
    return outputs.unsqueeze(-1) if outputs.ndim == 1 else outputs


def _length(inputs: Any) -> int:
    values = inputs.values() if isinstance(inputs, Mapping) else inputs
    first = next(value for value in values if isinstance(value, Tensor | Mapping))
    return len(next(tensors_of(first)))
