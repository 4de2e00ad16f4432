"""Gaussian noise on the embeddings of a batch: a control for what a regularizer is credited with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from amr.fusion.data.clips import Batch
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

    def __call__(self, batch: Batch) -> Batch:
        """The batch with noise; task and R must see the same one."""
        embeddings = dict(batch.embeddings)
        for i, (m, e) in enumerate(batch.embeddings.items()):
            if m not in self._scale:
                continue
            present = of_same_runs(batch.present[..., i], e)
            valid = present if e.ndim == 3 else present[..., None] & step_mask(e)
            noise = of_same_runs(self.noise.normal(*e.shape[1:]), e)
            embeddings[m] = e + noise * self._scale[m] * valid.unsqueeze(-1)
        return replace(batch, embeddings=embeddings)
