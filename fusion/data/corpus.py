"""Clips of another cache, for runs that were fitted elsewhere: with their classes and their normalization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from amr.common.devices import choose_device
from amr.extract.cache.fingerprint import differences
from amr.extract.cache.reader import IMPORTED, Cache, EmbeddingInfo
from amr.fusion.data.clips import Clips
from amr.fusion.data.dataset import Dataset, make_dataset
from amr.fusion.data.folds import Fold, TrainingData, exceed_memory, normalized
from amr.fusion.data.normalization import Normalization
from amr.fusion.data.splits import SplitRows
from amr.fusion.data.targets import sort_classes

MAX_NAMED = 5  # classes that a message lists


def read_corpus(
    path: Path,
    embeddings: Mapping[str, Mapping[str, Any]],
    classes: Sequence[str],
    normalizations: Sequence[Normalization],
    *,
    label: str,
    standardized: bool,
    keep_steps: bool,
    device: str,
) -> TrainingData:
    """Read the clips of a cache for heads that were fitted on another one.

    The clips are those of the test split if the cache has one, else all; clips of other classes are left out. Every
    fold has all of them as test, with its own normalization. They are in the place of train, too, so that statistics
    of the train clips are those of the measured ones; val is empty.

    Args:
        path: Cache file.
        embeddings: Modality to the embedding that the heads were fitted on, as in the record of a run.
        classes: Classes of the heads.
        normalizations: Normalization of each fold.
        label: Column with the classes.
        standardized: Whether the fit standardized its embeddings.
        keep_steps: Whether to keep the steps of embeddings.
        device: Device of the clips: auto, cpu or cuda.

    Raises:
        ValueError: The cache is unfinished, has other embeddings, no such column, or no clip of the classes.
    """
    with Cache.open(path) as cache:
        if not cache.complete:
            raise ValueError(
                f"--cache must be a finished cache, got {str(path)!r}, whose extraction was interrupted. "
                "Run the same amr extract again to finish it."
            )
        notes = [note for m, info in embeddings.items() if (note := _check_embedding(cache, m, info, keep_steps))]
        clips = cache.table()
        if label not in clips:
            raise ValueError(
                f"--cache must have the column {label!r}, which the runs predict, got {', '.join(map(str, clips))}. "
                "Import or extract it with that column."
            )
        values = clips[label].astype(str).tolist()
        codes = {name: code for code, name in enumerate(classes)}
        target = np.array([codes.get(value, -1) for value in values])
        on_disk = exceed_memory(cache, [*embeddings], len(normalizations), keep_steps=keep_steps)
        dataset = make_dataset(cache, [*embeddings], clips, target, classes, keep_steps=keep_steps, on_disk=on_disk)
    rows, notes_on_rows = _rows(dataset, path, values)
    raw = dict(dataset.embeddings)
    dataset = replace(dataset, embeddings={})
    splits = [(rows, rows[:0])] * len(normalizations)
    measured, notes_on_memory = normalized(raw, dataset, splits, normalizations, choose_device(device), on_disk=on_disk)
    folds = tuple(
        Fold(SplitRows(rows, rows[:0], rows), normalization, test, none, test)
        for normalization, (test, none) in zip(normalizations, measured, strict=True)
    )
    if standardized:
        folds = tuple(replace(fold, train=_standard_clips(fold)) for fold in folds)
    else:
        notes.append("the fit did not standardize: the train mean and deviation are those of the measured clips")
    return TrainingData(path, dataset, folds, (*notes, *notes_on_rows, *notes_on_memory, *dataset.notes_on_values()))


def _check_embedding(cache: Cache, modality: str, fitted: Mapping[str, Any], keep_steps: bool) -> str | None:
    """Refuse an embedding that another encoder made; a note if that cannot be known, or if it is the very same."""
    if modality not in cache.names:
        raise ValueError(
            f"--cache must hold the embedding {modality} that the runs were fitted on, got {', '.join(cache.names)}. "
            "Extract or import it under that name."
        )
    new = cache.info(modality)
    old = replace(new, **{field.name: fitted[field.name] for field in fields(EmbeddingInfo) if field.name in fitted})
    advice = "Extract these clips with the encoder of the runs."
    if new.embed_dim != old.embed_dim or (keep_steps and (new.max_steps is None) != (old.max_steps is None)):
        raise ValueError(f"{modality} of --cache must be as in the fit, {_shape(old)}, got {_shape(new)}. {advice}")
    if new.fingerprint == old.fingerprint:
        return f"{modality} is that of the fit, clip by clip: this is no other corpus"
    if old.encoder.startswith(IMPORTED) or new.encoder.startswith(IMPORTED):
        return f"{modality} is imported: that both caches have it from the same encoder is taken on trust"
    for name, before, after in differences(replace(old, dtype=new.dtype), new):
        raise ValueError(f"{modality} of --cache must have the {name} of the fit, {before}, got {after}. {advice}")
    return None


def _shape(info: EmbeddingInfo) -> str:
    return f"{info.embed_dim} dimensions" + ("" if info.max_steps is None else " in steps")


def _rows(dataset: Dataset, path: Path, values: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Row numbers of the clips to measure, and notes on the others."""
    rows = np.flatnonzero(dataset.usable)
    splits = dataset.clips["split"].to_numpy()[rows]
    has_test = bool((splits == "test").any())
    rows = rows[splits == "test"] if has_test else rows
    unknown = {value for value in values if value} - {*dataset.classes}
    others = sort_classes([*unknown])
    if len(rows) == 0:
        raise ValueError(
            f"--cache must have clips of the runs' classes ({_few(dataset.classes)}) with an embedding, "
            f"got {_few(others) or 'no labels'} in {str(path)!r}. Name another cache."
        )
    notes = [f"measured on {'the' if has_test else 'all'} {len(rows)} {'test ' * has_test}clips of {path.name}"]
    if others:
        num_others = sum(value in unknown for value in values)
        notes.append(f"{num_others} clips of {path.name} are left out: no run knows their classes ({_few(others)})")
    num_unlabelled = sum(not value for value in values)
    num_without = int(((dataset.target >= 0) & ~dataset.present.any(-1)).sum())
    for number, why in ((num_unlabelled, "no label"), (num_without, f"none of {', '.join(dataset.modalities)}")):
        if number:
            notes.append(f"{number} clips of {path.name} have {why} and are left out")
    return rows, notes


def _few(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _standard_clips(fold: Fold) -> Clips:
    """Two clips at mean - deviation and mean + deviation of a fit's standardized train clips: -1 and 1."""
    test, device = fold.test, fold.test.target.device
    signs = torch.tensor([[-1.0], [1.0]], device=device)
    embeddings = {m: signs.expand(2, e.shape[-1]) for m, e in test.embeddings.items()}
    present = fold.normalization.mask(torch.ones(2, len(embeddings), dtype=torch.bool, device=device))
    return Clips(embeddings, present, torch.zeros(2, dtype=torch.long, device=device))
