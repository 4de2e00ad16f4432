"""Normalised clips on the device, and a model's answers for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from amr.fusion.run_axis.axes import of_runs, step_mask

CHUNK_NUMBERS = 2**24  # embedding values in flight at once, over all runs: 64 MiB of float32


@dataclass(frozen=True)
class Clips:
    """Clips without a run axis: every run sees the same ones.

    Args:
        embeddings: modality to `(clips, dim)`, normalised; 0 where the clip lacks the modality. With steps
            `(clips, steps, dim)`, 0 behind the clip's own. They may stay in the host's memory where the device has
            no room for them; batches then go to the device of `target` as they are needed. float16 where the cache
            is, as half the bytes; batches are float32 always.
        present: bool `(clips, modalities)`.
        target: `(clips,)`.
    """

    embeddings: Mapping[str, Tensor]
    present: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.target)

    def gather(self, index: Tensor, num_runs: int) -> Batch:
        """The clips of `index`, `(run, batch)`, or `(shared, batch)` where runs in a row share them."""
        return Batch(
            {m: self._rows(e, index) for m, e in self.embeddings.items()},
            of_runs(self.present[index], num_runs),
            of_runs(self.target[index], num_runs),
        )

    def _rows(self, embedding: Tensor, index: Tensor) -> Tensor:
        device = self.target.device
        if embedding.device == device:
            return embedding[index].float()
        rows = embedding[index.to(embedding.device)]
        return (rows.pin_memory() if device.type == "cuda" else rows).to(device, non_blocking=True).float()

    def slice(self, start: int, stop: int, num_runs: int) -> Batch:
        """Clips start to stop, the same for every run."""
        return Batch(
            {m: e[None, start:stop].to(self.target.device).float() for m, e in self.embeddings.items()},
            self.present[start:stop].expand(num_runs, -1, -1),
            self.target[start:stop].expand(num_runs, -1),
        )

    def take(self, rows: Tensor) -> Clips:
        """Some of the clips, by number or mask."""
        taken = {m: e[rows.to(e.device)] for m, e in self.embeddings.items()}
        return Clips(taken, self.present[rows], self.target[rows])

    def only(self, modality: str) -> Clips:
        """The clips that have a modality, with that modality only."""
        column = list(self.embeddings).index(modality)
        rows = self.present[:, column]
        embedding = self.embeddings[modality]
        return Clips(
            {modality: embedding[rows.to(embedding.device)]}, self.present[rows, column, None], self.target[rows]
        )

    def pool_steps(self) -> Clips:
        """Steps averaged, for heads that take none."""
        means = {}
        for m, e in self.embeddings.items():
            num_steps = step_mask(e).sum(-1, keepdim=True).clamp_min(1) if e.ndim == 3 else None
            means[m] = e if num_steps is None else (e.float().sum(1) / num_steps).to(e.dtype)
        return Clips(means, self.present, self.target)

    def with_permuted(self, modality: str, order: Tensor) -> Clips:
        """One modality taken from other clips: clip i gets that of clip `order[i]`, its absence included."""
        column = list(self.embeddings).index(modality)
        present = self.present.clone()
        present[:, column] = self.present[order, column]
        embedding = self.embeddings[modality]
        return Clips({**self.embeddings, modality: embedding[order.to(embedding.device)]}, present, self.target)

    def chunks(self, num_runs: int) -> range:
        """Starts of the chunks that keep memory bounded; `.step` is their size."""
        width = num_runs * sum(e.shape[1:].numel() for e in self.embeddings.values())
        return range(0, len(self), max(1, CHUNK_NUMBERS // width))


@dataclass(frozen=True)
class Batch:
    """Clips for a group of runs.

    Args:
        embeddings: modality to `(run, batch, dim)`, normalised; 0 where the clip lacks the modality. With steps
            `(run, batch, steps, dim)`, 0 behind the clip's own. The first axis is shorter where runs in a row share
            their clips (`of_runs`).
        present: bool `(run, batch, modalities)`.
        target: `(run, batch)`.
    """

    embeddings: Mapping[str, Tensor]
    present: Tensor
    target: Tensor
