"""Encoders as trainable modules, from batches of prepared clips, padded with zeros to one length, to embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MeanOverRows(nn.Module):
    """A model applied to every row of a clip, then the mean over the clip's rows.

    Args:
        model: Module from `(rows, ...)` to `(rows, embed_dim)`.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, clips: Tensor) -> Tensor:
        """Embeddings `(batch, embed_dim)` float32, from `(batch, rows, ...)`.

        Rows of zeros at the end of a clip are padding. The model does not see them, because they would enter its
        batch statistics.
        """
        lengths = num_rows(clips)
        valid = up_to(lengths, clips.shape[1])  # (batch, rows)
        features = self.model(fastest_layout(clips[valid])).float()  # (rows of all clips, embed_dim)
        steps = features.new_zeros(*valid.shape, features.shape[-1]).masked_scatter(valid[..., None], features)
        return steps.sum(1) / lengths[:, None]


def num_rows(clips: Tensor) -> Tensor:
    """Number of rows of each clip, `(batch,)`, up to the last row that is not all zero; at least 1.

    Args:
        clips: Padded clips, `(batch, rows, ...)`.

    >>> num_rows(torch.tensor([[5.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0]]))
    tensor([3, 1])
    """
    nonzero = (clips != 0).flatten(2).any(2) if clips.ndim > 2 else clips != 0
    return (nonzero * torch.arange(1, clips.shape[1] + 1, device=clips.device)).amax(1).clamp(min=1)


def up_to(lengths: Tensor, num: int) -> Tensor:
    """Mask of the rows within each clip's length, `(batch, num)`, from `(batch,)`.

    >>> up_to(torch.tensor([3, 1]), 4)
    tensor([[ True,  True,  True, False],
            [ True, False, False, False]])
    """
    return torch.arange(num, device=lengths.device) < lengths[:, None]


def fastest_layout(rows: Tensor) -> Tensor:
    """Convert `(rows, channels, height, width)` to channels last, the fastest for convolutions. Leave others as is."""
    if rows.ndim == 4:
        return rows.contiguous(memory_format=torch.channels_last)
    return rows
