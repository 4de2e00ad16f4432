"""Encoders as modules to be trained: batches of prepared clips, filled up with zeros to one length, to embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MeanOverRows(nn.Module):
    """Every row of a clip through a model, then the mean over the clip's rows.

    Args:
        model: (rows, ...) to (rows, embed_dim).
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, clips: Tensor) -> Tensor:
        """(batch, rows, ...) to (batch, embed_dim) float32.

        Rows of zeros at the end of a clip only fill it up: they would enter the model's batch statistics.
        """
        lengths = num_rows(clips)
        there = up_to(lengths, clips.shape[1])  # (batch, rows)
        features = self.model(fastest_layout(clips[there])).float()  # (rows of all clips, embed_dim)
        steps = features.new_zeros(*there.shape, features.shape[-1]).masked_scatter(there[..., None], features)
        return steps.sum(1) / lengths[:, None]


def num_rows(clips: Tensor) -> Tensor:
    """(batch, rows, ...) to (batch,): rows up to the last that is not all zero, at least 1.

    >>> num_rows(torch.tensor([[5.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0]]))
    tensor([3, 1])
    """
    there = (clips != 0).flatten(2).any(2) if clips.ndim > 2 else clips != 0
    return (there * torch.arange(1, clips.shape[1] + 1, device=clips.device)).amax(1).clamp(min=1)


def up_to(lengths: Tensor, num: int) -> Tensor:
    """(batch,) to (batch, num): which rows lie within each clip's length.

    >>> up_to(torch.tensor([3, 1]), 4)
    tensor([[ True,  True,  True, False],
            [ True, False, False, False]])
    """
    return torch.arange(num, device=lengths.device) < lengths[:, None]


def fastest_layout(rows: Tensor) -> Tensor:
    """(rows, channels, height, width) as convolutions are fastest with: channels last; anything else as it is."""
    if rows.ndim == 4:
        return rows.contiguous(memory_format=torch.channels_last)
    return rows
