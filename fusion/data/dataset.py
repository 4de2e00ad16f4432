"""A cache as the trainer sees it: embeddings and targets as tensors, normalised by what the train part holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from amr.common.registry import unknown
from amr.extract.cache.reader import Cache, EmbeddingInfo
from amr.fusion.threads import one_thread

CHUNK_NUMBERS = 2**19  # values that are normalised at once: 2 MiB of float32


@dataclass(frozen=True)
class Normalization:
    """Mean and deviation of each dimension, by modality; both `(dim,)`."""

    mean: Mapping[str, Tensor]
    std: Mapping[str, Tensor]

    @classmethod
    def identity(cls, embed_dims: Mapping[str, int]) -> Normalization:
        """Embeddings stay as they are cached."""
        return cls(
            {m: torch.zeros(dim) for m, dim in embed_dims.items()},
            {m: torch.ones(dim) for m, dim in embed_dims.items()},
        )

    def to(self, device: torch.device | str) -> Normalization:
        """On a device."""
        return Normalization(
            {m: mean.to(device) for m, mean in self.mean.items()}, {m: std.to(device) for m, std in self.std.items()}
        )

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
            for part, written in zip(_chunks(taken, e), _chunks(result[m], e), strict=True):
                x = e[part].float().sub_(self.mean[m]).div_(self.std[m])
                lacking = ~present[part, i].view(-1, *[1] * (e.ndim - 1)) | x.isnan()
                written.copy_(x.masked_fill_(lacking, 0).clamp_(-most, most))
        return result


@dataclass(frozen=True)
class Dataset:
    """The clips of a cache with the embeddings and the label that were asked for.

    Args:
        clips: the cache's table of clips.
        embeddings: modality to `(clips, dim)`, as cached, steps averaged; or with its steps `(clips, steps, dim)`,
            NaN behind each clip's own.
        present: bool `(clips, modalities)`.
        target: `(clips,)`; -1 where the label is absent.
        classes: the labels' names, sorted.
        infos: modality to what the cache says of its embedding.
    """

    clips: pd.DataFrame
    embeddings: Mapping[str, Tensor]
    present: Tensor
    target: Tensor
    classes: tuple[str, ...]
    infos: Mapping[str, EmbeddingInfo]

    @property
    def modalities(self) -> tuple[str, ...]:
        """The names of the embeddings, in order."""
        return tuple(self.embeddings)

    @property
    def embed_dims(self) -> dict[str, int]:
        """Modality to size of its embedding."""
        return {m: e.shape[-1] for m, e in self.embeddings.items()}

    @property
    def usable(self) -> np.ndarray:
        """Bool `(clips,)`: the clip has a label and at least one of the modalities."""
        return ((self.target >= 0) & self.present.any(-1)).numpy()

    def dtype(self, modality: str) -> torch.dtype:
        """The cache's own: what normalised values need no more than."""
        return torch.float16 if self.infos[modality].dtype == "float16" else torch.float32

    def notes(self) -> list[str]:
        """What is left out, in words."""
        unlabelled = int((self.target < 0).sum())
        without = int(((self.target >= 0) & ~self.present.any(-1)).sum())
        lines = []
        if unlabelled:
            lines.append(f"{unlabelled} clips have no label and are left out")
        if without:
            lines.append(f"{without} clips have none of {', '.join(self.modalities)} and are left out")
        return lines

    @one_thread()
    def normalization(self, kind: str, train: np.ndarray) -> Normalization:
        """What to subtract and divide by, from the train clips that have the modality.

        Args:
            kind: standard, or none.
            train: row numbers of the train part.

        """
        if kind == "none":
            return Normalization.identity(self.embed_dims)
        mean, std = {}, {}
        for i, (m, e) in enumerate(self.embeddings.items()):
            rows = torch.from_numpy(train[self.present[train, i].numpy()])
            count, total, largest = 0, torch.zeros(e.shape[-1], dtype=torch.double), torch.zeros(e.shape[-1])
            for there in _vectors(e, rows):
                count, total = count + len(there), total + there.sum(0, dtype=torch.double)
                largest = largest.maximum(there.abs().amax(0))
            if count == 0:
                # never seen in training: a unit scale keeps everything finite (open_source takes it for absent)
                mean[m], std[m] = torch.zeros(e.shape[-1]), torch.ones(e.shape[-1])
                continue
            middle = total / count
            squares = torch.zeros_like(total)
            for there in _vectors(e, rows):
                squares += (there.double() - middle).square_().sum(0)
            deviation = (squares / count).sqrt()
            # a dimension that never moves stays 0 after the shift; dividing by rounding noise would blow it up
            still = deviation <= 1e-7 * largest.clamp_min(1e-30)
            mean[m], std[m] = middle.float(), torch.where(still, 1.0, deviation).float()
        return Normalization(mean, std)


def _chunks(values: Tensor, embedding: Tensor) -> tuple[Tensor, ...]:
    """Of as many clips as fit a CPU's cache; of no clip at all where there is none."""
    return values.split(max(1, CHUNK_NUMBERS // max(1, embedding[:1].numel())))


def _vectors(embedding: Tensor, rows: Tensor) -> Iterator[Tensor]:
    """The clips of `rows` chunk by chunk, float32 `(clips or steps, dim)`, without the steps that are not there."""
    for part in _chunks(rows, embedding):
        there = embedding[part].float().flatten(0, -2)
        gaps = there.isnan().any(-1)
        there = there[~gaps] if bool(gaps.any()) else there
        if len(there) > 0:
            yield there


def read_dataset(
    cache: Cache, *, modalities: str | None = None, label: str = "label", keep_steps: bool = False
) -> Dataset:
    """Read what a fit needs from a cache.

    Args:
        cache: an open cache.
        modalities: embedding names with commas between; None: all, alphabetically.
        label: the column that is predicted.
        keep_steps: keep embeddings with steps as they are, for heads that take them; else average them.

    Raises:
        ValueError: an unknown name or column, a column with fewer than two classes, or an unfinished extraction.
    """
    if not cache.complete:
        raise ValueError(
            f"{cache.path} must be a finished cache, got one whose extraction was interrupted. "
            "Run the same amr extract again to finish it."
        )
    names = sorted(cache.names) if modalities is None else [name.strip() for name in modalities.split(",")]
    for name in names:
        if name not in cache.names:
            raise unknown("--modalities", name, cache.names)
    if len(set(names)) != len(names):
        raise ValueError(f"--modalities must name each embedding once, got {modalities!r}.")
    target, classes = read_target(cache.clips, label)
    return Dataset(
        clips=cache.clips,
        embeddings={name: read_embedding(cache, name, keep_steps=keep_steps) for name in names},
        present=torch.from_numpy(np.stack([cache.present(name) for name in names], axis=-1)),
        target=torch.from_numpy(target),
        classes=classes,
        infos={name: cache.info(name) for name in names},
    )


def read_target(clips: pd.DataFrame, label: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Each clip's class, `(clips,)`, -1 where it has no label, and the classes' names, sorted.

    Args:
        clips: a cache's or a manifest's table.
        label: the column that is predicted.

    Raises:
        ValueError: no such column, or fewer than two classes.
    """
    if label not in clips or label in ("id", "path", "split", "group"):
        columns = [c for c in map(str, clips) if c not in ("id", "path", "split", "group")]
        raise unknown("--label", label, columns)
    values = clips[label].astype(str)
    classes = tuple(sort_classes(values[values.ne("")].unique().tolist()))
    if len(classes) < 2:
        raise ValueError(f"--label must name a column with at least two classes, got {label!r} with {len(classes)}.")
    codes = {name: code for code, name in enumerate(classes)}
    return np.array([codes.get(value, -1) for value in values], dtype=np.int64), classes


def sort_classes(names: Sequence[str]) -> list[str]:
    """By name; as numbers where all of them are.

    >>> sort_classes(["10", "9", "1"])
    ['1', '9', '10']
    """
    try:
        return sorted(names, key=lambda name: (float(name), name))
    except ValueError:
        return sorted(names)


def read_embedding(cache: Cache, name: str, rows: np.ndarray | None = None, *, keep_steps: bool = False) -> Tensor:
    """One embedding of a cache, `(clips, dim)`, its steps averaged; or `(clips, steps, dim)` with NaN as padding.

    Args:
        cache: an open cache.
        name: of the embedding.
        rows: which clips, all by default.
        keep_steps: keep steps, where the embedding has them.
    """
    values, num_steps = torch.from_numpy(cache.read(name, rows)), cache.num_steps(name)
    if num_steps is not None and rows is not None:
        num_steps = num_steps[rows]
    return take_steps(values, None if num_steps is None else torch.from_numpy(num_steps), keep_steps=keep_steps)


def take_steps(values: Tensor, num_steps: Tensor | None, *, keep_steps: bool) -> Tensor:
    """`(clips, steps, dim)` padded with NaN, or averaged to `(clips, dim)`; `(clips, dim)` stays as it is."""
    if keep_steps and values.ndim == 3 and num_steps is not None:
        return pad_steps(values, num_steps)
    return values if keep_steps else pool_steps(values, num_steps)


def pool_steps(values: Tensor, num_steps: Tensor | None) -> Tensor:
    """The mean over each clip's steps: `(clips, steps, dim)` to `(clips, dim)`; `(clips, dim)` stays as it is."""
    if values.ndim == 2:
        return values
    if num_steps is None:
        num_steps = torch.full((len(values),), values.shape[1])
    total = pad_steps(values.float(), num_steps).nansum(1)
    return total / num_steps.clamp_min(1)[:, None]


def pad_steps(values: Tensor, num_steps: Tensor) -> Tensor:
    """`(clips, steps, dim)`, NaN behind the first `num_steps`, `(clips,)`, of each clip, whatever was there."""
    behind = torch.arange(values.shape[1]) >= num_steps[:, None]  # (clips, steps)
    return values.masked_fill(behind[..., None], torch.nan)
