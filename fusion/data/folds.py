"""Training data of all runs on one cache: its clips, and the splits of each fold, normalized, on the device."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amr.common.devices import choose_device
from amr.common.files.memory import memory_at_hand
from amr.common.files.temporary import temporary_folder
from amr.common.options import quoted
from amr.common.workspace import find_cache
from amr.extract.cache.reader import Cache
from amr.fusion.config import FitConfig
from amr.fusion.data.clips import Clips
from amr.fusion.data.dataset import Dataset, read_dataset
from amr.fusion.data.normalization import Normalization
from amr.fusion.data.on_disk import DiskClips
from amr.fusion.data.splits import SplitRows, split_rows
from amr.fusion.data.targets import TargetScale
from amr.fusion.data.warnings import SplitData

MEMORY_FRACTION = 0.8  # of the memory at hand, for embeddings
EMBEDDINGS_FRACTION = 0.6  # of free device memory; the rest is for weights and activations


@dataclass(frozen=True)
class Fold:
    """Train, val and test clips, ready for training.

    Args:
        rows: Row numbers of the clips of each split.
        normalization: Statistics of the train split.
        train, val, test: Clips of each split.
        target_scale: Scale of a number that is predicted: targets of clips are in its units; None for classes and
            labels.
    """

    rows: SplitRows
    normalization: Normalization
    train: Clips
    val: Clips
    test: Clips
    target_scale: TargetScale | None = None


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
        names = cache.names if config.modalities is None else modalities_of(config)
        on_disk = exceed_memory(cache, names, max(1, config.folds), keep_steps=keep_steps)
        dataset = read_dataset(
            cache,
            modalities=config.modalities,
            label=config.label,
            task=config.task,
            label_separator=config.label_separator,
            keep_steps=keep_steps,
            on_disk=on_disk,
        )
        if not dataset.usable.any():
            again = "; amr extract --resume tries failed clips again" * (len(cache.failures) > 0)
            raise ValueError(
                f"--cache must have a clip with a label and {' or '.join(dataset.modalities)}, got none of "
                f"{len(dataset.clips):,}. See amr inspect {quoted(path)} for the reasons{again}."
            )
        in_old_order = not cache.is_ordered and config.modalities is None and len(dataset.modalities) > 1
    all_splits = split_rows(
        dataset.clips,
        dataset.strata,
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
    normalizations = [dataset.normalization(config.normalize, rows.train) for rows in all_splits]
    embeddings = dict(dataset.embeddings)
    dataset = replace(dataset, embeddings={})
    splits = [(rows.train, rows.val, rows.test) for rows in all_splits]
    clips, more = normalized(embeddings, dataset, splits, normalizations, choose_device(config.device), on_disk=on_disk)
    notes += more
    folds = tuple(
        scaled(Fold(rows, normalization, train, val, test), dataset.task)
        for rows, normalization, (train, val, test) in zip(all_splits, normalizations, clips, strict=True)
    )
    classes = dataset.target.numpy() if dataset.task == "multiclass" else None
    warnings = SplitData(dataset.clips, classes, dataset.classes, all_splits, task=dataset.task).warnings()
    return TrainingData(path, dataset, folds, tuple(dict.fromkeys(notes)), tuple(warnings))


def scaled(fold: Fold, task: str) -> Fold:
    """The fold with numbers that are predicted in units of the train clips; others are returned unchanged."""
    if task != "regression":
        return fold
    scale = TargetScale.of(fold.train.target)
    train, val, test = (replace(clips, target=scale.apply(clips.target)) for clips in (fold.train, fold.val, fold.test))
    return replace(fold, train=train, val=val, test=test, target_scale=scale)


def exceed_memory(cache: Cache, names: Collection[str], copies: int, *, keep_steps: bool) -> bool:
    """Whether embeddings are too large for memory: as they are stored, and normalized for each of some folds."""
    num_bytes = 0
    for info in map(cache.info, set(names) & set(cache.names)):
        values = cache.num_clips * info.embed_dim * np.dtype(info.dtype).itemsize
        steps = 1 if info.max_steps is None else info.max_steps
        num_bytes += values * (steps + copies * (steps if keep_steps else 1))
    return num_bytes > MEMORY_FRACTION * memory_at_hand()


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


def normalized(
    embeddings: dict[str, Tensor],
    dataset: Dataset,
    splits: Sequence[Sequence[np.ndarray]],
    normalizations: Sequence[Normalization],
    device: torch.device,
    *,
    on_disk: bool,
) -> tuple[list[list[Clips]], list[str]]:
    """Normalize the splits of each fold, in the device's memory if it has room for them.

    Args:
        embeddings: Embeddings of the dataset. They are taken out, so that each is freed before the next is copied.
        dataset: Their clips.
        splits: Row numbers of the clips of each split, for each fold.
        normalizations: Normalization of each fold.
        device: Device of the batches.
        on_disk: Whether the results lie in files.

    Returns:
        Clips of each split of each fold; notes on where their embeddings are.
    """
    num_clips = sum(len(rows) for of_fold in splits for rows in of_fold)
    num_bytes = num_clips * sum(e.shape[1:].numel() * dataset.dtype(m).itemsize for m, e in embeddings.items())
    streams = num_bytes > EMBEDDINGS_FRACTION * free_bytes(device)
    normal: list[list[dict[str, Tensor]]] = [[{} for _ in of_fold] for of_fold in splits]
    for i, m in enumerate(dataset.modalities):
        raw = embeddings.pop(m)
        for normalization, of_fold, of_splits in zip(normalizations, splits, normal, strict=True):
            present = normalization.mask(dataset.present)[:, i]
            for rows, of_split in zip(of_fold, of_splits, strict=True):
                index, dtype = torch.from_numpy(rows), dataset.dtype(m)
                copy = normalization.apply_to(m, raw, present, index, dtype, on_disk=on_disk)
                of_split[m] = copy if streams else copy.to(device)
    kind = DiskClips if on_disk and (streams or device.type == "cpu") else Clips
    clips = []
    for normalization, of_fold, of_splits in zip(normalizations, splits, normal, strict=True):
        present = normalization.mask(dataset.present)
        pairs = zip(of_fold, of_splits, strict=True)
        clips.append([kind(e, present[rows].to(device), dataset.target[rows].to(device)) for rows, e in pairs])
    size, notes = f"the embeddings ({num_bytes / 2**30:.1f} GiB)", []
    if streams:
        notes.append(f"{size} do not fit on the device: batches stream from host memory")
    if on_disk:
        notes.append(f"{size} do not fit into memory: they lie in temporary files in {temporary_folder()}")
    return clips, notes
