"""What encoders with a model have in common: devices, precision, batches, pooling over time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from amr.extract.encoders.base import Encoder

if TYPE_CHECKING:
    from typing import Self


class ModelEncoder(Encoder):
    """An encoder with a model; on a GPU it computes in half precision where that overflows nothing.

    Attributes:
        model: maps (rows, ...) to (rows, embed_dim).
        rows_at_once: the most rows that go through the model together, which bounds memory.
        keep: "mean" or "steps": what becomes of the rows of a clip.
        base_spec: of a `trained:` encoder, what it was built from; None of any other.
    """

    trainable = True
    model: nn.Module
    rows_at_once = 64
    keep = "mean"
    base_spec: str | None = None
    device = torch.device("cpu")

    def to(self, device: torch.device | str) -> Self:
        """Move the model to a device, ready to embed: in evaluation mode, without gradients."""
        self.device = torch.device(device)
        self.model.eval().requires_grad_(False).to(self.device)
        return self

    def embed(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Every clip's rows go through the model side by side, then each clip's are pooled over time.

        Args:
            inputs: for each clip (rows, ...), such as (frames, channels, height, width).
        """
        rows = torch.cat(list(inputs)).split(self.rows_at_once)
        features = torch.cat([self.run(each) for each in rows])  # (rows of all clips, embed_dim)
        return [self.pool(each) for each in features.split([len(each) for each in inputs])]

    @torch.inference_mode()
    def run(self, rows: Tensor) -> Tensor:
        """(rows, ...) to (rows, embed_dim) float32 on the CPU."""
        rows = rows.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, torch.float16, enabled=self.device.type == "cuda"):
            features = self.forward(rows)
        if self.device.type == "cuda" and not torch.isfinite(features).all():
            features = self.forward(rows)
        return features.float().cpu()

    @abstractmethod
    def forward(self, rows: Tensor) -> Tensor:
        """(rows, ...) to (rows, embed_dim) on the device."""

    @abstractmethod
    def network(self) -> nn.Module:
        """What is trained: (batch, *shape of an input) to (batch, embed_dim), the mean over time.

        Its weights are those of `model`, named `model.<name>`. Clips shorter than others end in zeros. In
        evaluation mode it agrees with `embed` for keep=mean.
        """

    def pool(self, steps: Tensor) -> Tensor:
        """(steps, embed_dim) of a clip to its embedding."""
        if self.keep == "mean":
            return steps.mean(0)
        return at_most(steps, self.max_steps or len(steps))


def at_most(steps: Tensor, max_steps: int) -> Tensor:
    """(steps, dim) to (max_steps, dim) by averaging over equal parts of the time, where there are more.

    >>> at_most(torch.tensor([[1.0], [3.0], [5.0], [7.0]]), 2)
    tensor([[2.],
            [6.]])
    """
    if len(steps) <= max_steps:
        return steps
    return functional.adaptive_avg_pool1d(steps.T, max_steps).T.contiguous()
