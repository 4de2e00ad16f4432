"""Normalized clips on the device, and batches of them for a run group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from amr.common.devices import upload
from amr.fusion.run_axis.axes import of_runs, step_mask
from amr.fusion.run_axis.seeds import generator

NUM_PERMUTATIONS = 10
CHUNK_NUMBERS = 2**24  # embedding values per chunk, over all runs: 64 MiB of float32
CACHED_NUMBERS = 2**19  # values per chunk that fits a CPU's cache: 2 MiB of float32
BLOCK_BYTES = 2**18  # of clips that are next to each other in a file


@dataclass(frozen=True)
class Clips:
    """Clips without a run axis: every run sees the same ones.

    Args:
        embeddings: Modality to `(clips, dim)`, normalized; 0 if the clip lacks the modality. With steps
            `(clips, steps, dim)`, 0 after the clip's last step. If device memory is too small, they stay in host
            memory, and each batch is copied to the device of `target`. float16 if the cache is, to halve the bytes;
            batches are always float32.
        present: Bool `(clips, modalities)`.
        target: Classes `(clips,)`; labels `(clips, labels)`, 0 or 1; or numbers `(clips,)`, in units of train clips.
        rows: Modality to the row of each clip in its embedding, `(clips,)` on its device, gathered batch by batch.
            Clips of the other modalities are in the order of their embedding.
    """

    embeddings: Mapping[str, Tensor]
    present: Tensor
    target: Tensor
    rows: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.target)

    @property
    def index_device(self) -> torch.device:
        """Device of the indices of batches: that of the embeddings, so that no batch waits for its own indices."""
        return next((e.device for e in self.embeddings.values()), self.target.device)

    def gather(self, index: Tensor, num_runs: int) -> Batch:
        """Clips of `index`, `(run, batch)`, or `(shared, batch)` if adjacent runs share their clips."""
        there = upload(index, self.target.device)
        return Batch(
            {m: self._rows(e, self._stored_at(m, index)) for m, e in self.embeddings.items()},
            of_runs(self.present[there], num_runs),
            of_runs(self.target[there], num_runs),
            index=of_runs(there, num_runs),
        )

    def _rows(self, embedding: Tensor, index: Tensor) -> Tensor:
        there = index.to(embedding.device)
        rows = embedding.index_select(0, there.flatten()).unflatten(0, there.shape)
        return upload(rows, self.target.device).float()

    def slice(self, start: int, stop: int, num_runs: int) -> Batch:
        """Clips `start` to `stop`, exclusive, the same for every run."""
        embeddings = {
            m: e.index_select(0, self.rows[m][start:stop]) if m in self.rows else e[start:stop]
            for m, e in self.embeddings.items()
        }
        return Batch(
            {m: e[None].to(self.target.device).float() for m, e in embeddings.items()},
            self.present[start:stop].expand(num_runs, -1, -1),
            self.target[start:stop].expand(num_runs, *[-1] * self.target.ndim),
            index=torch.arange(len(self), device=self.target.device)[start:stop].expand(num_runs, -1),
        )

    def take(self, rows: Tensor) -> Clips:
        """Clips of `rows`: row numbers or a mask."""
        embeddings = {m: self._select(e, self._stored_at(m, rows)) for m, e in self.embeddings.items()}
        return replace(self, embeddings=embeddings, present=self.present[rows], target=self.target[rows], rows={})

    def view(self, rows: Tensor) -> Clips:
        """Clips of `rows`, as in `take`, without a copy of their embeddings: for clips that are read once."""
        rows = rows.nonzero()[:, 0] if rows.dtype == torch.bool else rows
        own = {m: self._stored_at(m, rows.to(e.device)) for m, e in self.embeddings.items()}
        return replace(self, present=self.present[rows], target=self.target[rows], rows=own)

    def only(self, modality: str) -> Clips:
        """Clips that have a modality, with that modality only."""
        column = list(self.embeddings).index(modality)
        rows = self.present[:, column]
        embeddings = {modality: self._select(self.embeddings[modality], self._stored_at(modality, rows))}
        present, target = self.present[rows, column, None], self.target[rows]
        return replace(self, embeddings=embeddings, present=present, target=target, rows={})

    def pool_steps(self) -> Clips:
        """Clips with their steps averaged, for heads that take no steps."""
        means = dict(self.embeddings)
        for m, e in self.embeddings.items():
            if e.ndim == 3:
                chunks = chunks_of(e, e)
                counts = (step_mask(chunk).sum(-1, keepdim=True).clamp_min(1) for chunk in chunks)
                pairs = zip(chunks, counts, strict=True)
                means[m] = torch.cat([(chunk.float().sum(1) / count).to(e.dtype) for chunk, count in pairs])
        return replace(self, embeddings=means)

    def with_permuted(self, modality: str, order: Tensor) -> Clips:
        """Permute one modality between clips: clip i gets that of clip `order[i]`, present or absent."""
        column = list(self.embeddings).index(modality)
        present = self.present.clone()
        present[:, column] = self.present[order, column]
        rows = self._stored_at(modality, order.to(self.embeddings[modality].device))
        return replace(self, present=present, rows={**self.rows, modality: rows})

    def _stored_at(self, modality: str, clips: Tensor) -> Tensor:
        """Rows of clips, by number or mask, in the embedding of a modality."""
        rows = self.rows.get(modality)
        return clips if rows is None else rows[clips.to(rows.device)]

    def _select(self, embedding: Tensor, rows: Tensor) -> Tensor:
        return embedding[rows.to(embedding.device)]

    @property
    def block(self) -> int | None:
        """Number of adjacent clips that a file is read by, for `Noise.shuffles`; None if the order may be any.

        It depends on the data alone: whether they are in memory or in files, batches are the same.
        """
        clip_bytes = sum(e.shape[1:].numel() * e.dtype.itemsize for e in self.embeddings.values())
        return max(1, BLOCK_BYTES // max(1, clip_bytes))

    def chunks(self, num_runs: int) -> range:
        """Starts of chunks of bounded memory; `.step` is the chunk size."""
        width = num_runs * sum(e.shape[1:].numel() for e in self.embeddings.values())
        return range(0, len(self), max(1, CHUNK_NUMBERS // width))


@dataclass(frozen=True)
class Batch:
    """Clips for a run group.

    Args:
        embeddings: Modality to `(run, batch, dim)`, normalized; 0 if the clip lacks the modality. With steps
            `(run, batch, steps, dim)`, 0 after the clip's last step. The first axis is shorter if adjacent runs share
            their clips (`of_runs`).
        present: Bool `(run, batch, modalities)`.
        target: Classes or numbers `(run, batch)`, or labels `(run, batch, labels)`.
        host_present: `present` in host memory, for models whose work depends on it; None if it is on the device alone.
        index: Numbers of the clips among those that the batch is of, `(run, batch)`; None if they are of no such set.
    """

    embeddings: Mapping[str, Tensor]
    present: Tensor
    target: Tensor
    host_present: Tensor | None = None
    index: Tensor | None = None

    def only(self, modality: str) -> Batch:
        """The same clips with one modality."""
        i = list(self.embeddings).index(modality)
        present, on_host = self.present[..., i, None], self.host_present
        on_host = None if on_host is None else on_host[..., i, None]
        return Batch({modality: self.embeddings[modality]}, present, self.target, on_host, self.index)


def chunks_of(values: Tensor, embedding: Tensor) -> tuple[Tensor, ...]:
    """Split `values` along the clips into chunks that fit a CPU's cache; one empty chunk if there are no clips."""
    return values.split(max(1, CACHED_NUMBERS // max(1, embedding[:1].numel())))


def at_rows(embedding: Tensor, rows: Tensor) -> Tensor:
    """Some rows of an embedding: a view of adjacent ones on a CPU, so nobody may change them in place."""
    if rows.device.type == "cpu" and len(rows) and bool((rows.diff() == 1).all()):
        return embedding[int(rows[0]) : int(rows[-1]) + 1]
    return embedding[rows]


def permutation_orders(clips: Clips, count: int = NUM_PERMUTATIONS, seed: int = 0) -> list[Tensor]:
    """Seeded permutations of the clips, `(clips,)` each: the same for every run and modality."""
    draws = generator(seed, "permutations")
    return [torch.randperm(len(clips), generator=draws).to(clips.target.device) for _ in range(count)]
