"""Measure many clips in one pass: in evaluation mode, in chunks of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from amr.fusion.data.clips import Batch, Clips
from amr.fusion.model import FusionModel

OfBatch = Callable[[Batch, Mapping[str, Tensor]], Sequence[Tensor]]


@torch.no_grad()
def over_clips(model: FusionModel, clips: Clips, of_batch: OfBatch, dim: int = -1) -> list[Tensor]:
    """Tensors of all clips, joined along their axis of clips. The model is in evaluation mode meanwhile.

    Args:
        model: Model of a run group.
        clips: Clips, such as `MethodContext.train`.
        of_batch: Function of a batch and its encodings that returns tensors.
        dim: Axis of the clips in these tensors.
    """
    was_training = model.training
    model.eval()
    num_runs = len(next(model.parameters()))
    starts = clips.chunks(num_runs)
    batches = (clips.slice(start, start + starts.step, num_runs) for start in starts)
    found = [of_batch(batch, model.encode(batch)) for batch in batches]
    model.train(was_training)
    return [torch.cat(tensors, dim=dim) for tensors in zip(*found, strict=True)]


def of_its_clips(values: Tensor, batch: Batch) -> Tensor:
    """Values of a batch's clips, from those of all clips: `(..., run, clips)` to `(..., run, batch)`."""
    if batch.index is None:
        raise ValueError("batch must have the numbers of its clips, got none. Take it by Clips.gather.")
    return values.gather(-1, batch.index.expand(*values.shape[:-1], -1))
