"""Standardize each dimension by its mean and standard deviation over the train clips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from amr.common.devices import one_thread

CHUNK_NUMBERS = 2**19  # values per chunk: 2 MiB of float32


@dataclass(frozen=True)
class Normalization:
    """Statistics of the train clips.

    Args:
        mean, std: Modality to the mean and deviation of each dimension, `(dim,)`.
        seen: Modality to whether any train clip has it; a model must treat the others as absent.
    """

    mean: Mapping[str, Tensor]
    std: Mapping[str, Tensor]
    seen: Mapping[str, bool]

    @classmethod
    def identity(cls, embed_dims: Mapping[str, int], seen: Mapping[str, bool]) -> Normalization:
        """Normalization that leaves embeddings as cached."""
        return cls(
            {m: torch.zeros(dim) for m, dim in embed_dims.items()},
            {m: torch.ones(dim) for m, dim in embed_dims.items()},
            seen,
        )

    def to(self, device: torch.device | str) -> Normalization:
        """Copy to a device."""
        return Normalization(
            {m: mean.to(device) for m, mean in self.mean.items()},
            {m: std.to(device) for m, std in self.std.items()},
            self.seen,
        )

    def mask(self, present: Tensor) -> Tensor:
        """`present`, bool `(..., modalities)`, without the modalities that no train clip has."""
        return present & torch.tensor([self.seen[m] for m in self.mean], device=present.device)

    @one_thread()  # chunks are too short for several threads
    def apply(
        self,
        embeddings: Mapping[str, Tensor],
        present: Tensor,
        rows: Tensor | None = None,
        dtypes: Mapping[str, torch.dtype] | None = None,
    ) -> dict[str, Tensor]:
        """Standardize each embedding. Absent clips and NaN padding become 0.

        Args:
            embeddings: Modality to `(clips, dim)` or `(clips, steps, dim)`.
            present: Bool `(clips, modalities)`.
            rows: Row numbers of the clips; None for all.
            dtypes: Modality to its storage type; None for float32. Values beyond the type's range are clamped to it,
                so they never become infinite.
        """
        result = {}
        for i, (m, e) in enumerate(embeddings.items()):
            dtype = torch.float32 if dtypes is None else dtypes[m]
            largest = torch.finfo(dtype).max
            index = torch.arange(len(e), device=e.device) if rows is None else rows
            result[m] = torch.empty(len(index), *e.shape[1:], dtype=dtype, device=e.device)
            for chunk, output in zip(chunks_of(index, e), chunks_of(result[m], e), strict=True):
                x = e[chunk].float().sub_(self.mean[m]).div_(self.std[m])
                missing = ~present[chunk, i].view(-1, *[1] * (e.ndim - 1)) | x.isnan()
                output.copy_(x.masked_fill_(missing, 0).clamp_(-largest, largest))
        return result


def chunks_of(values: Tensor, embedding: Tensor) -> tuple[Tensor, ...]:
    """Split `values` along the clips into chunks that fit a CPU's cache; one empty chunk if there are no clips."""
    return values.split(max(1, CHUNK_NUMBERS // max(1, embedding[:1].numel())))


def vectors(embedding: Tensor, rows: Tensor) -> Iterator[Tensor]:
    """Yield the clips of `rows` in chunks, float32 `(clips or steps, dim)`, without NaN padding."""
    for chunk in chunks_of(rows, embedding):
        x = embedding[chunk].float().flatten(0, -2)
        gaps = x.isnan().any(-1)
        x = x[~gaps] if bool(gaps.any()) else x
        if len(x) > 0:
            yield x
