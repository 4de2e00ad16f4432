"""Encodings with clips on the first axis, from an encoder's output of any order, and back.

(batch, ...)             as it is
(batch * frames, ...)    frames of a clip are adjacent: (batch, frames, ...)
(steps, batch, ...)      as recurrent layers have it: (batch, steps, ...)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Order = Literal["clips", "frames", "steps"]


def order_of(shape: Sequence[int], num_clips: int, module: str) -> Order:
    """How the output of an encoder is ordered.

    Raises:
        ValueError: None of the orders fits.

    >>> order_of((8, 5), 8, "net"), order_of((24, 5), 8, "net"), order_of((30, 8, 5), 8, "net")
    ('clips', 'frames', 'steps')
    """
    if shape[0] == num_clips:
        return "clips"
    if len(shape) > 2 and shape[1] == num_clips:
        return "steps"
    if num_clips and shape[0] and shape[0] % num_clips == 0:
        return "frames"
    raise ValueError(
        f"{module} must return rows of the {num_clips} clips of the batch, got {tuple(shape)}. "
        f"{IDENTITY.format(module=module)}"
    )


def clips_first(value: Tensor, order: Order, num_clips: int) -> Tensor:
    """Encoding with clips on the first axis."""
    if order == "frames":
        return value.unflatten(0, (num_clips, -1))
    return value.transpose(0, 1) if order == "steps" else value


def as_returned(value: Tensor, order: Order) -> Tensor:
    """The inverse of `clips_first`."""
    if order == "frames":
        return value.flatten(0, 1)
    return value.transpose(0, 1) if order == "steps" else value


def is_doubtful(shape: Sequence[int], num_clips: int) -> bool:
    """Whether rows may be of other clips than `order_of` takes them for, so that `check_order` is needed.

    >>> is_doubtful((8, 5), 8), is_doubtful((24, 5), 8), is_doubtful((8, 8, 5), 8)
    (False, True, True)
    """
    return shape[0] != num_clips or (len(shape) > 2 and shape[1] == num_clips)


def check_order(logits: Tensor, value: Tensor, module: str) -> None:
    """Raise ValueError if the first clip's logits depend on the encodings of other clips.

    Args:
        logits: Logits `(clips, ...)` with a graph to `value`, of a model in evaluation mode.
        value: Encoding with clips on the first axis.
        module: Name of the module, for the error.
    """
    (gradient,) = torch.autograd.grad(logits[0].sum(), value, retain_graph=True, allow_unused=True)
    if gradient is None:
        return
    squares = gradient.flatten(1).square().sum(1)
    if squares[0] < LEAST_OWN * squares.sum():
        raise ValueError(
            f"{module} must return the rows of a clip next to each other, clips in the order of the logits, got rows "
            f"in another order. {IDENTITY.format(module=module)}."
        )


LEAST_OWN = 0.9  # part of the squared gradient that is of the clip itself; all of it, but for rounding
IDENTITY = (
    "In the model, add a torch.nn.Identity(), call it on the encoding of {module}, with clips on the first axis, "
    "before it is fused, and tap that"
)
