"""Clips of a store as the trainer takes them: nothing is read before a batch asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from amr.fusion.data.clips import Batch, Clips
from amr.fusion.run_axis.axes import of_runs

CLIPS_AT_ONCE = 64


@dataclass(frozen=True)
class MediaClips(Clips):
    """Some of a store's clips.

    Args:
        embeddings: modality to `(clips of the store, *shape)`, the store's tensors, which are never copied.
        present: bool `(clips, modalities)`, of these clips.
        target: `(clips,)`; batches go to its device.
        rows: `(clips,)`, int64 on the CPU: where these clips are in the store.
        augment: changes the clips of a training batch, from modality and `(run, batch, *shape)`.
        rows_of: modality to `rows` of its own, where it is taken from other clips.
    """

    rows: Tensor
    augment: Callable[[str, Tensor], Tensor] | None = None
    rows_of: Mapping[str, Tensor] = field(default_factory=dict)

    def gather(self, index: Tensor, num_runs: int) -> Batch:
        """The clips of `index`, for training: augmented, float32.

        Args:
            index: `(run, batch)`, or `(shared, batch)` where runs in a row share them.
            num_runs: of the group.
        """
        embeddings = self._read(index.cpu())
        if self.augment is not None:
            embeddings = {m: self.augment(m, x) for m, x in embeddings.items()}
        return Batch(embeddings, of_runs(self.present[index], num_runs), of_runs(self.target[index], num_runs))

    def slice(self, start: int, stop: int, num_runs: int) -> Batch:
        """Clips start to stop, the same for every run, as they are in the store."""
        clips = torch.arange(len(self))[start:stop]
        return Batch(
            self._read(clips[None]),
            self.present[start:stop].expand(num_runs, -1, -1),
            self.target[start:stop].expand(num_runs, -1),
        )

    def _read(self, index: Tensor) -> dict[str, Tensor]:
        """`(run, batch)` clips of these to modality -> `(run, batch, *shape)` on the device."""
        return {m: self._rows(e, self._rows_in_store(m)[index]) for m, e in self.embeddings.items()}

    def _rows_in_store(self, modality: str) -> Tensor:
        return self.rows_of.get(modality, self.rows)

    def take(self, rows: Tensor) -> MediaClips:
        """Some of the clips, by number or mask."""
        on_cpu = rows.cpu()
        return replace(
            self,
            present=self.present[rows],
            target=self.target[rows],
            rows=self.rows[on_cpu],
            rows_of={m: own[on_cpu] for m, own in self.rows_of.items()},
        )

    def only(self, modality: str) -> MediaClips:
        """The clips that have a modality, with that modality only."""
        column = list(self.embeddings).index(modality)
        there = self.take(self.present[:, column])
        return replace(
            there,
            embeddings={modality: self.embeddings[modality]},
            present=there.present[:, column, None],
            rows=there._rows_in_store(modality),
            rows_of={},
        )

    def pool_steps(self) -> MediaClips:
        """The same: what is stored has no steps."""
        return self

    def with_permuted(self, modality: str, order: Tensor) -> MediaClips:
        """One modality taken from other clips: clip i gets that of clip `order[i]`, its absence included."""
        column = list(self.embeddings).index(modality)
        present = self.present.clone()
        present[:, column] = self.present[order, column]
        moved = self._rows_in_store(modality)[order.cpu()]
        return replace(self, present=present, rows_of={**self.rows_of, modality: moved})

    def chunks(self, num_runs: int) -> range:
        """Starts of the chunks that keep memory bounded; `.step` is their size."""
        return range(0, len(self), CLIPS_AT_ONCE)
