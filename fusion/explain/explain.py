"""Explain one clip in one picture: `amr explain`.

shares         by gradient x input of the probability and of the logit, integrated gradients, Shapley
removed        predictions with one modality replaced: by zero and marked absent, or by its mean over the train clips
steps          fraction of a modality's gradient x input in each of its time steps
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from amr.common.devices import choose_device
from amr.common.progress import Progress
from amr.common.workspace import find_run
from amr.data_manifests.schema import TEXT
from amr.extract.cache.reader import Cache
from amr.extract.named_clips import NamedClip, named_clips
from amr.extract.pipeline.load import ClipFiles
from amr.extract.pipeline.preview import MODALITIES, cached_media, decode_media, read_as
from amr.fusion.data.folds import TrainingData, read_training_data
from amr.fusion.data.targets import read_targets
from amr.fusion.explain.classes import ClassExplanation
from amr.fusion.explain.config import ExplainConfig
from amr.fusion.explain.explanation import Decisions, Explanation
from amr.fusion.explain.fold import FoldNumbers, explain_fold
from amr.fusion.explain.labels import LabelsExplanation
from amr.fusion.explain.number import NumberExplanation
from amr.fusion.explain.picture import draw
from amr.fusion.explain.when import timed
from amr.fusion.heads import heads
from amr.fusion.runs.new_clips import ReadClips, check_embeddings, is_imported, read_clips
from amr.fusion.runs.read import chosen_run
from amr.fusion.runs.record import RunRecord
from amr.fusion.runs.weights import FittedRun, read_fitted
from amr.fusion.tasks.decision import Decision

MAX_FRAMES = 10
KINDS: tuple[type[Explanation[Any]], ...] = (ClassExplanation, LabelsExplanation, NumberExplanation)
EXPLANATIONS = {kind.task: kind for kind in KINDS}


def explain(config: ExplainConfig, progress: Progress | None = None) -> Explanation[Any]:
    """Explain one clip and write the picture.

    Args:
        config: Run, clip and picture.
        progress: Listener that gets a note with the run of a sweep that is explained.

    Raises:
        ValueError: The clip is neither a file nor an id in the run's cache, or the picture cannot be written.
        FileNotFoundError: The run does not exist.
        RuntimeError: The clip has none of the run's modalities.
    """
    progress = progress or Progress()
    run = chosen_run(find_run(config.run), progress)
    config.check_writable(run)
    fitted = read_fitted(run, choose_device(config.device))
    clip, read = _read_clip(config, fitted)
    data, note = _training_data(fitted.record, config.device)
    folds = [
        explain_fold(
            model,
            clips,
            fitted.record.modalities,
            None if data is None else data.folds[fold].train,
            fitted.task,
            fitted.scales[fold],
        )
        for fold, (model, clips) in enumerate(read.of_folds(fitted))
    ]
    origin = _Origin.find(clip, fitted, data)
    steps = _mean([fold.weights for fold in folds])
    video = [len(weight) for m, weight in steps.items() if fitted.record.modalities[m]["modality"] == "video"]
    media = decode_media(origin.media, video[0] if video and video[0] <= MAX_FRAMES else MAX_FRAMES)
    presence = zip(fitted.record.modalities, read.present[0].tolist(), strict=True)
    notes = read.notes(0, [m for m, present in presence if not present])
    notes += [*origin.notes, *([note] if note else []), *media.notes]
    picture = config.picture(run)
    kinds = {m: info["modality"] for m, info in fitted.record.modalities.items()}
    weights = {m: weight.tolist() for m, weight in steps.items()}
    times = timed(fitted.record.modalities, weights, media.duration_seconds)
    explanation = EXPLANATIONS[fitted.task.name].of(
        _decisions(fitted, folds, origin.truth),
        fitted,
        clip=clip.name,
        run=str(run),
        head=fitted.record.config.head,
        method=fitted.record.config.method,
        amr_ratio=fitted.record.config.amr_ratio,
        share=_shares(fitted, folds),
        steps=times,
        notes=tuple(dict.fromkeys(notes)),
        picture=str(picture),
        text=media.text if TEXT in kinds.values() and media.text else None,
    )
    picture.parent.mkdir(parents=True, exist_ok=True)
    draw(picture, explanation, media, kinds)
    return explanation


def _read_clip(config: ExplainConfig, fitted: FittedRun) -> tuple[NamedClip, ReadClips]:
    """Find the clip of a config, and embed it as the run does.

    Raises:
        ValueError: There is no such clip, or there are several.
        RuntimeError: The clip has none of the run's modalities.
    """
    kinds = {info["modality"] for info in fitted.record.modalities.values()}
    named = named_clips([config.clip], sorted(kinds | set(MODALITIES)))
    if len(named) != 1:
        example = f" Name one, such as {named[0].name}." if named else ""
        raise ValueError(f"CLIP must be a single clip, got {config.clip!r} with {len(named)} clips.{example}")
    batches: list[ReadClips] = []
    unread = read_clips(fitted, named, config.device, lambda _, read: batches.append(read), keep_steps=True)
    for reason in unread.values():
        raise ValueError(
            f"CLIP must be a media file or the id of a cached clip, got {config.clip!r}: {reason}. "
            "Check the path, or the manifest's ids."
        )
    read = batches[-1]
    if not read.present.any():
        reason = "; ".join(read.notes(0, list(fitted.record.modalities)))
        raise RuntimeError(f"CLIP must have one of the run's modalities, got {config.clip!r}: {reason}. Name another.")
    return named[0], read


@dataclass(frozen=True)
class _Origin:
    """Origin of the clip: its media, what is true of it, and notes on the folds and splits that it was in."""

    media: ClipFiles
    truth: Decision | None
    notes: list[str]

    @classmethod
    def find(cls, clip: NamedClip, fitted: FittedRun, data: TrainingData | None) -> _Origin:
        """Look the clip up in the run's cache, unless it is a file."""
        folds = [f"mean over {len(fitted.models)} folds"] if len(fitted.models) > 1 else []
        if clip.files is not None and not is_imported(fitted.record):
            preprocessings = [info["preprocessing"] for info in fitted.record.modalities.values()]
            return cls(read_as(clip.files, preprocessings), None, folds)
        with Cache.open(Path(fitted.record.cache)) as cache:
            table = cache.table()
            row = int(np.flatnonzero(table["id"] == clip.name)[0])
            media = clip.files or cached_media(cache, row)
        return cls(media, _truth(fitted, table, row), folds + ([] if data is None else [_split_note(data, row)]))


def _truth(fitted: FittedRun, table: pd.DataFrame, row: int) -> Decision | None:
    """What is true of a cached clip; None if the cache has no such targets now."""
    config = fitted.record.config
    try:
        targets = read_targets(table, config.label, config.task, config.label_separator)
    except ValueError:
        return None
    return fitted.task.truth(targets.values[row], targets.classes)


def _split_note(data: TrainingData, row: int) -> str:
    """Note on the split of the clip in each fold: a prediction on a train clip says little."""
    splits = []
    for fold in data.folds:
        rows_of = {"train": fold.rows.train, "val": fold.rows.val, "test": fold.rows.test}
        splits.append(next((name for name, rows in rows_of.items() if row in rows), "no"))
    if len(splits) == 1:
        return f"a clip of the {splits[0]} split" if splits[0] != "no" else "a clip of no split"
    return f"the clip was trained on in {splits.count('train')} of them"


def _training_data(record: RunRecord, device: str) -> tuple[TrainingData | None, str]:
    """Clips that the run was fitted on; None, and the reason, if they are not available."""
    path = Path(record.cache)
    if not path.is_file():
        return None, f"no replacement by the train mean: the run's cache {path} is gone"
    try:
        with Cache.open(path) as cache:
            check_embeddings(record, cache)
        config = replace(record.config, cache=str(path), device=device)
        return read_training_data(config, keep_steps=_takes_steps(record)), ""
    except ValueError as error:
        return None, f"no replacement by the train mean: {error}"


def _takes_steps(record: RunRecord) -> bool:
    return heads[record.config.head].takes_steps


def _decisions(fitted: FittedRun, folds: Sequence[FoldNumbers], truth: Decision | None) -> Decisions:
    """Decisions by the mean over folds."""

    def decide(outputs: Mapping[str, Tensor]) -> dict[str, Decision]:
        return {name: fitted.task.decision(values, fitted.record.classes) for name, values in outputs.items()}

    without = {baseline: decide(_mean([fold.removed[baseline] for fold in folds])) for baseline in folds[0].removed}
    return Decisions(decide(_mean([{"whole": fold.outputs} for fold in folds]))["whole"], without, truth)


def _shares(fitted: FittedRun, folds: Sequence[FoldNumbers]) -> dict[str, dict[str, float | None]]:
    """Attribution to modality to share, the mean over folds."""
    return {
        name: {m: None if s.isnan() else float(s) for m, s in zip(fitted.record.modalities, share, strict=True)}
        for name, share in _mean([fold.shares for fold in folds]).items()
    }


def _mean(folds: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Mean over folds for each name."""
    return {name: torch.stack([fold[name] for fold in folds]).mean(0) for name in folds[0]}
