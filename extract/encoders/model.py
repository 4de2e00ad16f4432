"""Base class of encoders with a model: devices, precision, batches, pooling over time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from amr.extract.encoders.base import Encoder
from amr.extract.encoders.file_tensor import forget_all

if TYPE_CHECKING:
    from typing import Self


class ModelEncoder(Encoder):
    """Encoder with a model. On a GPU it computes in half precision unless that overflows.

    Attributes:
        model: Module from `(rows, ...)` to `(rows, embed_dim)`.
        rows_at_once: Maximum number of rows in one forward pass, which bounds memory.
        keep: Pooling of a clip's rows, "mean" or "steps".
        base_spec: Spec that a `trained:` encoder was built from; None for any other encoder.
        trainable: Whether `amr train-encoders` can train it.
    """

    model: nn.Module
    rows_at_once = 64
    keep = "mean"
    base_spec: str | None = None
    trainable: bool = True
    device = torch.device("cpu")

    def to(self, device: torch.device | str) -> Self:
        """Move the model to a device, in evaluation mode and without gradients."""
        self.device = torch.device(device)
        self.model.eval().requires_grad_(False).to(self.device)
        return self

    def embed(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Pass the rows of all clips through the model together, then pool each clip's over time.

        Args:
            inputs: Rows of each clip, `(rows, ...)`, such as `(frames, channels, height, width)`.
        """
        rows = rows_of_all(inputs, self.rows_at_once)
        features = torch.cat([self.features(each) for each in rows])  # (rows of all clips, embed_dim)
        return [self.pool(each) for each in features.split([len(each) for each in inputs])]

    @torch.inference_mode()
    def features(self, rows: Tensor) -> Tensor:
        """Features `(rows, embed_dim)` float32 on the CPU, from `(rows, ...)`."""
        rows = rows.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, torch.float16, enabled=self.device.type == "cuda"):
            features = self.forward(rows)
        if self.device.type == "cuda" and not torch.isfinite(features).all():
            features = self.forward(rows)
        return features.float().cpu()

    @abstractmethod
    def forward(self, rows: Tensor) -> Tensor:
        """Features `(rows, embed_dim)` on the device, from `(rows, ...)`."""

    @abstractmethod
    def network(self) -> nn.Module:
        """Trainable module from `(batch, *input)` to `(batch, embed_dim)`, the mean over time.

        Its weights are those of `model`, named `model.<name>`. Shorter clips are padded with NaN at the end. In
        evaluation mode it agrees with `embed` for keep=mean.
        """

    def pool(self, steps: Tensor) -> Tensor:
        """Pool a clip's `(steps, embed_dim)` to its embedding."""
        if self.keep == "mean":
            return steps.mean(0)
        return at_most(steps, self.max_steps or len(steps))


def rows_of_all(inputs: Sequence[Tensor], rows_at_once: int) -> Iterator[Tensor]:
    """Yield the rows of all clips, as many at once as given; the last are the rest.

    >>> [rows.tolist() for rows in rows_of_all([torch.tensor([1, 2, 3]), torch.tensor([4])], 2)]
    [[1, 2], [3, 4]]
    """
    waiting: list[Tensor] = []
    for clip in inputs:
        rows: Tensor = clip
        while (missing := rows_at_once - sum(map(len, waiting))) <= len(rows):
            yield torch.cat([*waiting, rows[:missing]])
            waiting, rows = [], rows[missing:]
            forget_all([clip])
        if len(rows):
            waiting.append(rows)
    if waiting:
        yield torch.cat(waiting)
    forget_all(inputs)


def at_most(steps: Tensor, max_steps: int) -> Tensor:
    """Shorten `(steps, dim)` to at most `max_steps` steps, by averaging over equal parts of the time.

    >>> at_most(torch.tensor([[1.0], [3.0], [5.0], [7.0]]), 2)
    tensor([[2.],
            [6.]])
    """
    if len(steps) <= max_steps:
        return steps
    return functional.adaptive_avg_pool1d(steps.T, max_steps).T.contiguous()


def check_max_steps(max_steps: int) -> None:
    """Raise ValueError for a maximum number of steps below 1."""
    if max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, got {max_steps}. Pass max_steps=64.")
