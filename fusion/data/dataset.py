"""A cache as the trainer sees it: embeddings and targets as tensors, normalised by what the train part holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from amr.common.devices import one_thread
from amr.common.registry import unknown
from amr.extract.cache.reader import Cache, EmbeddingInfo
from amr.fusion.data.normalization import Normalization, vectors
from amr.fusion.run_axis.axes import take_steps


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
        has = self.present[train].any(0).tolist()
        seen = dict(zip(self.modalities, has, strict=True))
        if kind == "none":
            return Normalization.identity(self.embed_dims, seen)
        mean, std = {}, {}
        for i, (m, e) in enumerate(self.embeddings.items()):
            rows = torch.from_numpy(train[self.present[train, i].numpy()])
            count, total, largest = 0, torch.zeros(e.shape[-1], dtype=torch.double), torch.zeros(e.shape[-1])
            for there in vectors(e, rows):
                count, total = count + len(there), total + there.sum(0, dtype=torch.double)
                largest = largest.maximum(there.abs().amax(0))
            if count == 0:
                # never seen in training: a unit scale keeps everything finite (open_source takes it for absent)
                mean[m], std[m] = torch.zeros(e.shape[-1]), torch.ones(e.shape[-1])
                continue
            middle = total / count
            squares = torch.zeros_like(total)
            for there in vectors(e, rows):
                squares += (there.double() - middle).square_().sum(0)
            deviation = (squares / count).sqrt()
            # a dimension that never moves stays 0 after the shift; dividing by rounding noise would blow it up
            still = deviation <= 1e-7 * largest.clamp_min(1e-30)
            mean[m], std[m] = middle.float(), torch.where(still, 1.0, deviation).float()
        return Normalization(mean, std, seen)


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
    target, classes = read_target(cache.table(), label)
    return Dataset(
        clips=cache.table(),
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
    values, num_steps = torch.from_numpy(cache.embedding(name, rows)), cache.num_steps(name)
    if num_steps is not None and rows is not None:
        num_steps = num_steps[rows]
    return take_steps(values, None if num_steps is None else torch.from_numpy(num_steps), keep_steps=keep_steps)
