"""Encoders as trainable modules, from batches of prepared clips, padded with NaN to one length, to embeddings.

The padding carries the length of each clip: zeros are silence or black, which belong to the clip.
"""

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

        Rows of NaN at the end of a clip are padding. The model does not see them.
        """
        lengths = num_rows(clips)
        valid = up_to(lengths, clips.shape[1])  # (batch, rows)
        features = self.model(fastest_layout(clips[valid])).float()  # (rows of all clips, embed_dim)
        steps = features.new_zeros(*valid.shape, features.shape[-1]).masked_scatter(valid[..., None], features)
        return steps.sum(1) / lengths[:, None]


def num_rows(clips: Tensor) -> Tensor:
    """Number of rows of each clip, `(batch,)`, without the padding; at least 1.

    Args:
        clips: Clips padded with NaN, `(batch, rows, ...)`.

    >>> num_rows(torch.tensor([[5.0, 0.0, 0.0, torch.nan], [0.0, torch.nan, torch.nan, torch.nan]]))
    tensor([3, 1])
    """
    first = clips.flatten(2)[..., 0] if clips.ndim > 2 else clips
    return (~first.isnan()).sum(1).clamp(min=1)


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
