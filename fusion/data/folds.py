"""Training data of all runs on one cache: its clips, and the splits of each fold, normalized, on the device."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from amr.common.devices import choose_device
from amr.common.workspace import find_cache
from amr.extract.cache.reader import Cache
from amr.fusion.config import FitConfig
from amr.fusion.data.clips import Clips
from amr.fusion.data.dataset import Dataset, read_dataset
from amr.fusion.data.normalization import Normalization
from amr.fusion.data.splits import SplitRows, split_rows
from amr.fusion.data.warnings import SplitData

EMBEDDINGS_FRACTION = 0.6  # of free device memory; the rest is for weights and activations


@dataclass(frozen=True)
class Fold:
    """Train, val and test clips, ready for training.

    Args:
        rows: Row numbers of the clips of each split.
        normalization: Statistics of the train split.
        train, val, test: Clips of each split.
    """

    rows: SplitRows
    normalization: Normalization
    train: Clips
    val: Clips
    test: Clips


@dataclass(frozen=True)
class TrainingData:
    """A cache as read for the runs of a sweep.

    Args:
        cache: Path of the cache.
        dataset: Clips, embeddings, labels.
        folds: Folds of a cross-validation; without one, a single fold with the splits of the policy.
        notes: Sentences about what was decided or left out.
        warnings: Sentences about data that make results doubtful.
    """

    cache: Path
    dataset: Dataset
    folds: tuple[Fold, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def overlap(self) -> float:
        """Number of test clips over number of training clips, the mean over folds; 0 without folds."""
        ratios = [len(fold.test) / len(fold.train) for fold in self.folds]
        return float(np.mean(ratios)) if len(ratios) > 1 else 0.0

    def describe(self) -> dict[str, dict[str, Any]]:
        """Modality to the cache's description of its embedding."""
        return {m: asdict(info) for m, info in self.dataset.infos.items()}


def modalities_of(config: FitConfig) -> tuple[str, ...]:
    """Modalities of a config in order, those of the cache by default, without reading embeddings."""
    if config.modalities is not None:
        return tuple(name.strip() for name in config.modalities.split(","))
    with Cache.open(find_cache(config.cache)) as cache:
        return tuple(cache.names if cache.is_ordered else sorted(cache.names))


def read_training_data(config: FitConfig, *, keep_steps: bool) -> TrainingData:
    """Read a cache and divide its clips into splits.

    Args:
        config: Config, for its cache, modalities, label, split_policy, folds, split_seed, keep_flagged, normalize and
            device.
        keep_steps: Whether to keep the steps of embeddings.

    Raises:
        ValueError: The config does not fit the cache.
        FileNotFoundError: The cache does not exist.
    """
    path = find_cache(config.cache)
    with Cache.open(path) as cache:
        dataset = read_dataset(cache, modalities=config.modalities, label=config.label, keep_steps=keep_steps)
        in_old_order = not cache.is_ordered and config.modalities is None and len(dataset.modalities) > 1
    all_splits = split_rows(
        dataset.clips,
        dataset.target.numpy(),
        dataset.usable,
        policy=config.split_policy,
        folds=config.folds,
        seed=config.split_seed,
        keep_flagged=config.keep_flagged,
    )
    notes = [*dataset.notes(), *(note for rows in all_splits for note in rows.notes)]
    notes += [note for rows in all_splits for note in _unseen_notes(dataset, rows)]
    if in_old_order:
        notes.append(
            f"{path.name} was made by version 0.1 and has no order: its embeddings are in alphabetical order "
            f"({', '.join(dataset.modalities)}); --modalities sets another"
        )
    device = choose_device(config.device)
    num_bytes = len(all_splits) * sum(e.numel() * dataset.dtype(m).itemsize for m, e in dataset.embeddings.items())
    streams = num_bytes > EMBEDDINGS_FRACTION * free_bytes(device)
    if streams:
        notes.append(
            f"the embeddings ({num_bytes / 2**30:.1f} GiB) do not fit on the device: batches stream from host memory"
        )
    folds = tuple(_fold(dataset, rows, config.normalize, device, streams) for rows in all_splits)
    warnings = SplitData(dataset.clips, dataset.target.numpy(), dataset.classes, all_splits).warnings()
    return TrainingData(path, dataset, folds, tuple(dict.fromkeys(notes)), tuple(warnings))


def free_bytes(device: torch.device) -> float:
    """Free memory of a GPU; unlimited for a CPU, which holds the embeddings anyway."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")


def _unseen_notes(dataset: Dataset, rows: SplitRows) -> list[str]:
    seen = dataset.present[rows.train].any(0).tolist()
    return [
        f"no train clip has {m}: it is treated as absent everywhere"
        for m, any_clip in zip(dataset.modalities, seen, strict=True)
        if not any_clip
    ]


def _fold(dataset: Dataset, rows: SplitRows, normalize: str, device: torch.device, streams: bool) -> Fold:
    normalization = dataset.normalization(normalize, rows.train)
    train, val, test = (
        _clips(dataset, normalization, split, device, streams) for split in (rows.train, rows.val, rows.test)
    )
    return Fold(rows, normalization, train, val, test)


def _clips(
    dataset: Dataset, normalization: Normalization, rows: np.ndarray, device: torch.device, streams: bool
) -> Clips:
    index = torch.from_numpy(rows)
    present = normalization.mask(dataset.present)
    dtypes = {m: dataset.dtype(m) for m in dataset.modalities}
    embeddings = normalization.apply(dataset.embeddings, present, index, dtypes)
    if not streams:
        embeddings = {m: e.to(device) for m, e in embeddings.items()}
    return Clips(embeddings, present[index].to(device), dataset.target[index].to(device))
