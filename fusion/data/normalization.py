"""Standardize each dimension by its mean and standard deviation over the train clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from amr.common.devices import one_thread
from amr.fusion.data.clips import Clips, at_rows, chunks_of
from amr.fusion.data.on_disk import empty
from amr.fusion.run_axis.axes import step_mask

FIRST_VECTORS = 64  # of a chunk, whose mean is close to that of all


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
        return {
            m: self.apply_to(m, e, present[:, i], rows, torch.float32 if dtypes is None else dtypes[m])
            for i, (m, e) in enumerate(embeddings.items())
        }

    @one_thread()  # chunks are too short for several threads
    def apply_to(
        self,
        modality: str,
        embedding: Tensor,
        present: Tensor,
        rows: Tensor | None,
        dtype: torch.dtype,
        *,
        on_disk: bool = False,
    ) -> Tensor:
        """Standardize the embedding of one modality, as `apply` does.

        Args:
            modality: Name.
            embedding: `(clips, dim)` or `(clips, steps, dim)`.
            present: Bool `(clips,)`.
            rows: Row numbers of the clips; None for all.
            dtype: Storage type.
            on_disk: Whether the result lies in a file (`amr.fusion.data.on_disk`).
        """
        largest = torch.finfo(dtype).max
        index = torch.arange(len(embedding), device=embedding.device) if rows is None else rows
        result = empty((len(index), *embedding.shape[1:]), dtype, embedding.device, on_disk=on_disk)
        for chunk, output in zip(chunks_of(index, embedding), chunks_of(result, embedding), strict=True):
            x = (at_rows(embedding, chunk) - self.mean[modality]).div_(self.std[modality])  # float32
            missing = ~present[chunk].view(-1, *[1] * (embedding.ndim - 1))
            missing = missing | x.isnan() if embedding.ndim == 3 else missing
            x = x.masked_fill_(missing, 0) if missing.any() else x
            output.copy_(x.clamp_(-largest, largest))
        return result


def train_statistics(train: Clips) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Mean and standard deviation of each dimension over the present clips and their steps; 0 if there are none."""
    means, stds = {}, {}
    for i, (m, e) in enumerate(train.embeddings.items()):
        rows = train.present[:, i].to(e.device).nonzero()[:, 0]
        _, mean, std = moments(e, rows, step_mask)
        means[m], stds[m] = mean.float(), std.float()
    return means, stds


def not_padding(values: Tensor) -> Tensor:
    """Valid steps of embeddings that are not normalized: `(..., steps, dim)` to bool `(..., steps)`."""
    return ~values.isnan().any(-1)


@one_thread()
def moments(
    embedding: Tensor, rows: Tensor, are_steps: Callable[[Tensor], Tensor] = not_padding
) -> tuple[int, Tensor, Tensor]:
    """Number of vectors; mean and standard deviation of each dimension, float64 `(dim,)`, 0 if there are none.

    Each chunk is shifted by the mean of its first vectors, and summed. The chunks are joined in float64 as in Chan,
    Golub and LeVeque, Algorithms for Computing the Sample Variance (1983), equation 2.1.

    Args:
        embedding: `(clips, dim)` or `(clips, steps, dim)`.
        rows: Row numbers of the clips.
        are_steps: Function that finds the steps that are no padding.
    """
    count = 0
    mean, squares = torch.zeros(2, embedding.shape[-1], dtype=torch.double, device=embedding.device)
    for chunk in chunks_of(rows, embedding):
        x = at_rows(embedding, chunk)
        x = x[are_steps(x)] if embedding.ndim == 3 else x
        if len(x) == 0:
            continue
        shift = x[:FIRST_VECTORS].float().mean(0)
        x = x - shift
        moved = x.sum(0).double() / len(x)
        away, total = shift + moved - mean, count + len(x)
        squares += x.square_().sum(0).double() - moved.square() * len(x)
        squares += away.square() * (count * len(x) / total)
        mean += away * (len(x) / total)
        count = total
    return count, mean, (squares.clamp_min(0) / max(1, count)).sqrt()
