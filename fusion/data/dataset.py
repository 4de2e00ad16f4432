"""A cache as tensors for training: embeddings, targets, and normalization from the train split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from amr.common.registry import unknown
from amr.data_manifests.schema import counted
from amr.extract.cache.arrays import finite_rows
from amr.extract.cache.reader import Cache, EmbeddingInfo
from amr.fusion.data.clips import chunks_of
from amr.fusion.data.normalization import Normalization, moments
from amr.fusion.data.on_disk import empty
from amr.fusion.data.targets import read_targets, strata
from amr.fusion.run_axis.axes import take_steps

# Task to the words for clips that are left out, one and several.
_WITHOUT_TARGET = {
    "multiclass": ("clip has no label and is", "clips have no label and are"),
    "multilabel": ("clip has an unknown label and is", "clips have an unknown label and are"),
    "regression": ("clip has no number and is", "clips have no number and are"),
}


@dataclass(frozen=True)
class Dataset:
    """Clips of a cache with the requested embeddings and label.

    Args:
        clips: Clip table of the cache.
        embeddings: Modality to `(clips, dim)`, as cached, steps averaged; or with steps `(clips, steps, dim)`, NaN
            after each clip's last step. Empty once they are normalized.
        present: Bool `(clips, modalities)`.
        target: Classes `(clips,)`, -1 if the label is absent; or as `Targets.values` of another task.
        classes: Names of the classes, sorted; of labels, or of the column of a number.
        infos: Modality to the cache's description of its embedding.
        num_not_finite: Modality to the number of clips whose embedding is not finite, which are absent.
        task: Task that the targets are of.
    """

    clips: pd.DataFrame
    embeddings: Mapping[str, Tensor]
    present: Tensor
    target: Tensor
    classes: tuple[str, ...]
    infos: Mapping[str, EmbeddingInfo]
    num_not_finite: Mapping[str, int] = field(default_factory=dict)
    task: str = "multiclass"

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the embeddings, in order."""
        return tuple(self.infos)

    @property
    def embed_dims(self) -> dict[str, int]:
        """Modality to the size of its embedding."""
        return {m: info.embed_dim for m, info in self.infos.items()}

    @property
    def labelled(self) -> Tensor:
        """Mask of the clips with a target, bool `(clips,)`."""
        known = self.target >= 0 if self.task == "multiclass" else ~self.target.isnan()
        return known if known.ndim == 1 else known.all(-1)

    @property
    def usable(self) -> np.ndarray:
        """Mask of the clips with a label and at least one of the modalities, bool `(clips,)`."""
        return (self.labelled & self.present.any(-1)).numpy()

    @property
    def strata(self) -> np.ndarray:
        """Code of each clip by which splits are stratified, `(clips,)`."""
        return strata(self.task, self.target.numpy())

    def dtype(self, modality: str) -> torch.dtype:
        """Storage type in the cache; normalized values need no more precision."""
        return storage_type(self.infos[modality])

    def notes(self) -> list[str]:
        """One sentence per kind of clip, or of embedding, that is left out."""
        unlabeled = int((~self.labelled).sum())
        without_media = int((self.labelled & ~self.present.any(-1)).sum())
        lines = []
        if unlabeled:
            lines.append(f"{counted(unlabeled, *_WITHOUT_TARGET[self.task])} left out")
        if without_media:
            have, are = ("clip has", "is") if without_media == 1 else ("clips have", "are")
            lines.append(f"{without_media:,} {have} none of {', '.join(self.modalities)} and {are} left out")
        return [*lines, *self.notes_on_values()]

    def notes_on_values(self) -> list[str]:
        """One sentence per embedding with values that are not finite."""
        return [
            f"{counted(number, 'clip has', 'clips have')} values of {m} that are not finite and "
            f"{'is' if number == 1 else 'are'} treated as without {m}: the cache was "
            "changed after it was written. See amr verify"
            for m, number in self.num_not_finite.items()
            if number
        ]

    def normalization(self, kind: str, train: np.ndarray) -> Normalization:
        """Mean and deviation of each dimension, over the train clips that have the modality.

        Args:
            kind: Normalization: standard or none.
            train: Row numbers of the train split.
        """
        has = self.present[train].any(0).tolist()
        seen = dict(zip(self.embeddings, has, strict=True))
        if kind == "none":
            return Normalization.identity(self.embed_dims, seen)
        mean, std = {}, {}
        for i, (m, e) in enumerate(self.embeddings.items()):
            rows = torch.from_numpy(train[self.present[train, i].numpy()])
            count, middle, deviation = moments(e, rows)
            if count == 0:
                # no train clip has it: a unit scale keeps values finite, and `Normalization.mask` makes it absent
                mean[m], std[m] = torch.zeros(e.shape[-1]), torch.ones(e.shape[-1])
                continue
            # a constant dimension is 0 after the shift; dividing by rounding noise would blow it up
            constant = deviation <= 1e-7 * middle.abs().clamp_min(1e-30)
            mean[m], std[m] = middle.float(), torch.where(constant, 1.0, deviation).float()
        return Normalization(mean, std, seen)


def storage_type(info: EmbeddingInfo) -> torch.dtype:
    """Type of an embedding in the cache, and of what is made of it."""
    return torch.float16 if info.dtype == "float16" else torch.float32


def read_dataset(
    cache: Cache,
    *,
    modalities: str | None = None,
    label: str = "label",
    task: str = "multiclass",
    label_separator: str | None = None,
    keep_steps: bool = False,
    on_disk: bool = False,
) -> Dataset:
    """Read embeddings, labels and the clip table from a cache.

    Args:
        cache: Open cache.
        modalities: Comma list of embedding names; None for all, in the order of the cache (alphabetically for a cache
            of version 0.1).
        label: Column to predict, or columns, as for `read_targets`.
        task: Task: multiclass, multilabel or regression.
        label_separator: Text between the labels of a cell.
        keep_steps: Whether to keep the steps of embeddings, for heads that take them; if not, they are averaged.
        on_disk: Whether the embeddings lie in files (`amr.fusion.data.on_disk`).

    Raises:
        ValueError: A name or column is unknown, the column has fewer than two classes, or the cache is unfinished.
    """
    if cache.shard:
        raise ValueError(
            f"--cache must hold all clips, got {str(cache.path)!r}, which is shard {cache.shard} of them. "
            "Join the shards: amr merge SHARD... --out CACHE."
        )
    if not cache.complete:
        raise ValueError(
            f"{cache.path} must be a finished cache, got one whose extraction was interrupted. "
            "Run the same amr extract again to finish it."
        )
    ordered = cache.names if cache.is_ordered else sorted(cache.names)
    names = ordered if modalities is None else [name.strip() for name in modalities.split(",")]
    for name in names:
        if name not in cache.names:
            raise unknown("--modalities", name, cache.names)
    if len(set(names)) != len(names):
        raise ValueError(f"--modalities must name each embedding once, got {modalities!r}. Name it once.")
    clips = cache.table()
    targets = read_targets(clips, label, task, label_separator)
    dataset = make_dataset(cache, names, clips, targets.values, targets.classes, keep_steps=keep_steps, on_disk=on_disk)
    return replace(dataset, task=task)


def make_dataset(
    cache: Cache,
    names: Sequence[str],
    clips: pd.DataFrame,
    target: np.ndarray,
    classes: Sequence[str],
    *,
    keep_steps: bool,
    on_disk: bool = False,
) -> Dataset:
    """Read embeddings of a cache whose clips have these classes.

    Args:
        cache: Open cache.
        names: Names of the embeddings.
        clips: Table of the cache.
        target: Class of each clip, `(clips,)`; -1 for none.
        classes: Names of the classes.
        keep_steps: Whether to keep the steps of embeddings.
        on_disk: Whether the embeddings lie in files.
    """
    read = {name: read_embedding(cache, name, keep_steps=keep_steps, on_disk=on_disk) for name in names}
    return Dataset(
        clips=clips,
        embeddings={name: values for name, (values, _) in read.items()},
        present=torch.stack([present for _, present in read.values()], dim=-1),
        target=torch.from_numpy(target),
        classes=tuple(classes),
        infos={name: cache.info(name) for name in names},
        num_not_finite={name: int(cache.present(name).sum()) - int(read[name][1].sum()) for name in names},
    )


def read_embedding(
    cache: Cache, name: str, rows: np.ndarray | None = None, *, keep_steps: bool = False, on_disk: bool = False
) -> tuple[Tensor, Tensor]:
    """Read an embedding, and which clips have it.

    A clip with a value that is not finite counts as without it, as in an extraction.

    Args:
        cache: Open cache.
        name: Name of the embedding.
        rows: Row numbers of the clips; None for all.
        keep_steps: Whether to keep the steps, if the embedding has them.
        on_disk: Whether the embedding of all clips lies in a file (`amr.fusion.data.on_disk`).

    Returns:
        `(clips, dim)` with its steps averaged, or `(clips, steps, dim)` with NaN as padding; and bool `(clips,)`.
    """
    present, num_steps = cache.present(name), cache.num_steps(name)
    if rows is not None:
        present, num_steps = present[rows], None if num_steps is None else num_steps[rows]
    stored = _read_to_disk(cache, name) if on_disk and rows is None else cache.stored(name, rows)
    finite = finite_rows(stored)
    stored[~finite] = 0
    values = torch.from_numpy(stored)
    if num_steps is not None:
        values = _take_steps(values, torch.from_numpy(num_steps), keep_steps=keep_steps, on_disk=on_disk)
    return values, torch.from_numpy(present & finite)


def _read_to_disk(cache: Cache, name: str) -> np.ndarray:
    info = cache.info(name)
    values: np.ndarray = empty((cache.num_clips, *info.row_shape), storage_type(info), on_disk=True).numpy()
    for start, block in cache.stored_blocks(name):
        values[start : start + len(block)] = block
    return values


def _take_steps(values: Tensor, num_steps: Tensor, *, keep_steps: bool, on_disk: bool) -> Tensor:
    """`take_steps`, which copies what it gets, for few clips at a time: all together may be most of the memory."""
    taken = values if keep_steps else empty((len(values), values.shape[-1]), torch.float32, on_disk=on_disk)
    parts = (chunks_of(each, values) for each in (values, num_steps, taken))
    for chunk, steps, output in zip(*parts, strict=True):
        output.copy_(take_steps(chunk, steps, keep_steps=keep_steps))
    return taken
