"""Gaussian noise on the embeddings or encodings of a batch: a control for what a regularizer is credited with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from amr.fusion.data.clips import Batch
from amr.fusion.model import FusionModel
from amr.fusion.run_axis.axes import of_same_runs, step_mask
from amr.fusion.run_axis.seeds import Noise


class EmbeddingNoise:
    """Adds noise in units of the train deviation of each dimension, before the adapters. Absent clips stay 0.

    Args:
        amounts: Deviation of the noise of each modality, in the order of the embeddings.
        deviation: Modality to the deviation of each dimension over the train clips, `(dim,)`.
        seeds: Seed of each run.
        purpose: Name of the noise stream.
    """

    def __init__(
        self, amounts: Sequence[float], deviation: Mapping[str, Tensor], seeds: Sequence[int], purpose: str
    ) -> None:
        pairs = zip(deviation.items(), amounts, strict=True)
        self._scale = {m: amount * value for (m, value), amount in pairs if amount > 0}
        device = next(iter(deviation.values())).device
        self.noise = Noise(seeds, device, purpose)

    def encode(self, model: FusionModel, batch: Batch) -> tuple[Batch, dict[str, Tensor]]:
        """The batch with noise, and its z; task and R must see the same one."""
        noisy = self.add(batch)
        return noisy, model.encode(noisy)

    def add(self, batch: Batch) -> Batch:
        """The batch with noise."""
        embeddings = dict(batch.embeddings)
        for i, (m, e) in enumerate(batch.embeddings.items()):
            if m not in self._scale:
                continue
            present = of_same_runs(batch.present[..., i], e)
            valid = present if e.ndim == 3 else present[..., None] & step_mask(e)
            noise = of_same_runs(self.noise.normal(*e.shape[1:]), e)
            embeddings[m] = e + noise * self._scale[m] * valid.unsqueeze(-1)
        return replace(batch, embeddings=embeddings)


class EncodingNoise:
    """Adds noise to z, in units of the deviation of each dimension over the batch, if encoders are trained.

    Encoders change in training, so there is no deviation over the train clips. Absent clips stay 0.

    Args:
        amounts: Deviation of the noise of each modality, in order.
        seeds: Seed of each run.
        device: Device of the encodings.
        purpose: Name of the noise stream.
    """

    def __init__(self, amounts: Sequence[float], seeds: Sequence[int], device: torch.device, purpose: str) -> None:
        self._amounts = tuple(amounts)
        self.noise = Noise(seeds, device, purpose)

    def encode(self, model: FusionModel, batch: Batch) -> tuple[Batch, dict[str, Tensor]]:
        """The batch, and its z with noise; task and R must see the same one."""
        z = model.encode(batch)
        for i, (m, amount) in enumerate(zip(z, self._amounts, strict=True)):
            if amount > 0:
                present = batch.present[..., i, None]
                noise = self.noise.normal(*z[m].shape[1:]) * _deviation(z[m].detach(), present)
                z[m] = z[m] + amount * noise * present
        return batch, z


def _deviation(z: Tensor, present: Tensor) -> Tensor:
    """Standard deviation of each dimension over the present clips, `(run, 1, dim)`; 0 without clips."""
    count = present.sum(1, keepdim=True).clamp_min(1)
    mean = (z * present).sum(1, keepdim=True) / count
    return (((z - mean) * present).square().sum(1, keepdim=True) / count).sqrt()
