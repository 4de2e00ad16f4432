"""Standardize each dimension by its mean and deviation over the train clips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from amr.common.devices import one_thread

CHUNK_NUMBERS = 2**19  # values that are normalised at once: 2 MiB of float32


@dataclass(frozen=True)
class Normalization:
    """Statistics of the train clips.

    Args:
        mean, std: Modality to the mean and deviation of each dimension, `(dim,)`.
        seen: Modality to whether any train clip had it; a model must treat the others as absent.
    """

    mean: Mapping[str, Tensor]
    std: Mapping[str, Tensor]
    seen: Mapping[str, bool]

    @classmethod
    def identity(cls, embed_dims: Mapping[str, int], seen: Mapping[str, bool]) -> Normalization:
        """Embeddings stay as they are cached."""
        return cls(
            {m: torch.zeros(dim) for m, dim in embed_dims.items()},
            {m: torch.ones(dim) for m, dim in embed_dims.items()},
            seen,
        )

    def to(self, device: torch.device | str) -> Normalization:
        """On a device."""
        return Normalization(
            {m: mean.to(device) for m, mean in self.mean.items()},
            {m: std.to(device) for m, std in self.std.items()},
            self.seen,
        )

    def mask(self, present: Tensor) -> Tensor:
        """`present`, bool `(..., modalities)`, without the modalities that no train clip had."""
        return present & torch.tensor([self.seen[m] for m in self.mean], device=present.device)

    @one_thread()  # chunks are too short to be split
    def apply(
        self,
        embeddings: Mapping[str, Tensor],
        present: Tensor,
        rows: Tensor | None = None,
        dtypes: Mapping[str, torch.dtype] | None = None,
    ) -> dict[str, Tensor]:
        """Each as it came, shifted and scaled; 0 where the clip lacks the modality and where it is NaN.

        Args:
            embeddings: modality to `(clips, dim)` or `(clips, steps, dim)`.
            present: bool `(clips, modalities)`.
            rows: which clips, all by default.
            dtypes: modality to what its values are stored as, float32 by default. A value far outside of what
                training saw becomes the largest there is, not infinite.
        """
        result = {}
        for i, (m, e) in enumerate(embeddings.items()):
            dtype = torch.float32 if dtypes is None else dtypes[m]
            most = torch.finfo(dtype).max
            taken = torch.arange(len(e), device=e.device) if rows is None else rows
            result[m] = torch.empty(len(taken), *e.shape[1:], dtype=dtype, device=e.device)
            for part, written in zip(chunks_of(taken, e), chunks_of(result[m], e), strict=True):
                x = e[part].float().sub_(self.mean[m]).div_(self.std[m])
                lacking = ~present[part, i].view(-1, *[1] * (e.ndim - 1)) | x.isnan()
                written.copy_(x.masked_fill_(lacking, 0).clamp_(-most, most))
        return result


def chunks_of(values: Tensor, embedding: Tensor) -> tuple[Tensor, ...]:
    """Of as many clips as fit a CPU's cache; of no clip at all where there is none."""
    return values.split(max(1, CHUNK_NUMBERS // max(1, embedding[:1].numel())))


def vectors(embedding: Tensor, rows: Tensor) -> Iterator[Tensor]:
    """The clips of `rows` chunk by chunk, float32 `(clips or steps, dim)`, without the steps that are not there."""
    for part in chunks_of(rows, embedding):
        there = embedding[part].float().flatten(0, -2)
        gaps = there.isnan().any(-1)
        there = there[~gaps] if bool(gaps.any()) else there
        if len(there) > 0:
            yield there
