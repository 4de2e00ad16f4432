"""What a method is: how the task loss treats the modalities. One file a method, written as for one run.

Tensors carry a leading run axis, and a loss has one value a run; reductions go over the last axes only, so the code
reads as the paper's equations do. The attribution regularizer is the trainer's: it combines with every method.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from amr.data_manifests.registry import Registry, unknown
from amr.fusion.model import Batch, FusionModel


@dataclass(frozen=True)
class NoOptions:
    """A method without settings."""


@dataclass(frozen=True)
class Outcome:
    """What a method makes of a batch.

    Args:
        loss: `(run,)`: the task loss of each run.
        logits: `(run, batch, classes)`: the joint logits of the full, undropped z.
    """

    loss: Tensor
    logits: Tensor


class Method:
    """Base of all methods.

    Attributes:
        Options: frozen dataclass of the method's own settings; its defaults are the source's.
        optimizer, lr, weight_decay: what the method's source trains with, where the user asks for nothing else.
        takes_head: whether it trains a fusion head.
        takes_ratio: whether AMR can be added.
    """

    summary: ClassVar[str] = ""
    source: ClassVar[str] = ""
    Options: ClassVar[type[Any]] = NoOptions
    optimizer: ClassVar[str] = "adamw"
    lr: ClassVar[float] = 1e-3
    weight_decay: ClassVar[float] = 1e-2
    takes_head: ClassVar[bool] = True
    takes_ratio: ClassVar[bool] = True

    def __init__(self, options: Any = None) -> None:
        self.options = self.Options() if options is None else options

    @classmethod
    def check(cls, modalities: Sequence[str]) -> None:
        """Refuse modalities that the method cannot train on."""

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Outcome:
        """The task loss of each run on a batch whose encodings are `z`."""
        raise NotImplementedError


methods: Registry[type[Method]] = Registry("--method")


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over the clips: `(..., batch, classes)` and `(..., batch)` to `(...)`."""
    return -logits.log_softmax(-1).gather(-1, target.unsqueeze(-1)).squeeze(-1).mean(-1)


def parse_options(method: type[Method], texts: Sequence[str]) -> Any:
    """A method's Options from KEY=VALUE texts, each value of its default's type.

    Raises:
        ValueError: an unknown key, or a value of another type.
    """
    fields = {f.name: f for f in dataclasses.fields(method.Options)}
    values: dict[str, Any] = {}
    for text in texts:
        key, _, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if key not in fields:
            raise unknown("--method-option", key, fields)
        kind: Any = type(fields[key].default)
        try:
            values[key] = value if kind is str else kind(float(value)) if kind is int else kind(value)
        except ValueError:
            raise ValueError(f"--method-option {key} must be {kind.__name__}, got {value!r}.") from None
    return method.Options(**values)
