"""What the runs on one cache share: its clips, and each fold's parts, normalised, on the device."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from amr.data_manifests.workspace import find_cache
from amr.extract.cache import Cache
from amr.extract.device import choose_device
from amr.fusion.clips import Clips
from amr.fusion.config import FitConfig
from amr.fusion.data import Dataset, Normalization, read_dataset
from amr.fusion.splits import Parts, split_parts


@dataclass(frozen=True)
class Fold:
    """One division into train, val and test, ready to train on.

    Args:
        parts: row numbers of the clips of each part.
        normalization: from the train part.
        train, val, test: the clips.
    """

    parts: Parts
    normalization: Normalization
    train: Clips
    val: Clips
    test: Clips


@dataclass(frozen=True)
class Source:
    """A cache as the runs of a sweep see it.

    Args:
        cache: its path.
        dataset: clips, embeddings, labels.
        folds: the split's parts, or those of each fold.
        notes: what was decided or left out, in words.
    """

    cache: Path
    dataset: Dataset
    folds: tuple[Fold, ...]
    notes: tuple[str, ...]

    def describe(self) -> dict[str, dict[str, Any]]:
        """Modality to what the cache says of its embedding."""
        return {m: asdict(info) for m, info in self.dataset.infos.items()}


def open_source(config: FitConfig, *, keep_steps: bool) -> Source:
    """Read a cache and divide its clips as a config asks.

    Args:
        config: its cache, modalities, label, split_policy, folds, split_seed, keep_flagged, normalize and device count.
        keep_steps: keep embeddings with steps as they are.

    Raises:
        ValueError: the request does not fit the cache.
        FileNotFoundError: there is no such cache.
    """
    path = find_cache(config.cache)
    with Cache.open(path) as cache:
        dataset = read_dataset(cache, modalities=config.modalities, label=config.label, keep_steps=keep_steps)
    all_parts = split_parts(
        dataset.clips,
        dataset.target.numpy(),
        dataset.usable,
        policy=config.split_policy,
        folds=config.folds,
        seed=config.split_seed,
        keep_flagged=config.keep_flagged,
    )
    notes = tuple(dict.fromkeys([*dataset.notes(), *(note for parts in all_parts for note in parts.notes)]))
    device = choose_device(config.device)
    return Source(path, dataset, tuple(_fold(dataset, parts, config.normalize, device) for parts in all_parts), notes)


def _fold(dataset: Dataset, parts: Parts, normalize: str, device: torch.device) -> Fold:
    normalization = dataset.normalization(normalize, parts.train)
    train, val, test = (_clips(dataset, normalization, rows, device) for rows in (parts.train, parts.val, parts.test))
    return Fold(parts, normalization, train, val, test)


def _clips(dataset: Dataset, normalization: Normalization, rows: np.ndarray, device: torch.device) -> Clips:
    index = torch.from_numpy(rows)
    present = dataset.present[index]
    embeddings = normalization.apply({m: e[index] for m, e in dataset.embeddings.items()}, present)
    return Clips({m: e.to(device) for m, e in embeddings.items()}, present.to(device), dataset.target[index].to(device))
