"""Predictions of a run for new media files or cached clips: `amr predict`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from amr.common.devices import choose_device
from amr.fusion.heads import heads
from amr.fusion.model import predict_shares
from amr.fusion.runs.new_clips import ReadClips, read_clips
from amr.fusion.runs.weights import FittedRun, attributor_of, read_fitted


@dataclass(frozen=True)
class Prediction:
    """Prediction for one clip.

    Args:
        clip: Path or id, as requested.
        pred: Predicted class; None if the clip has none of the modalities.
        probability: Softmax probability of `pred`, the mean over folds.
        probabilities: Class to its probability.
        share: Modality to its share of the decision; None if the clip has fewer than two of the modalities.
        note: Remarks, such as an absent modality; empty if there are none.
    """

    clip: str
    pred: str | None
    probability: float | None
    probabilities: dict[str, float]
    share: dict[str, float | None]
    note: str = ""


def predict(run: Path, clips: Sequence[str], device: str = "auto") -> list[Prediction]:
    """Predict clips, each a media file or the id of a cached clip, in the order given.

    Args:
        run: Folder of a run.
        clips: Paths of media files, or ids in the run's cache.
        device: Device: auto, cpu or cuda.

    Raises:
        ValueError: There are no clips, a clip is neither a file nor an id, or the run's embeddings were imported, so
            that there is no encoder for new media.
        FileNotFoundError: There is no such run, or an id was requested and the cache is gone.
    """
    fitted = read_fitted(run, choose_device(device))
    read = read_clips(fitted, clips, device, keep_steps=heads[fitted.record.config.head].takes_steps)
    return _predict(fitted, clips, read)


def _predict(fitted: FittedRun, clips: Sequence[str], read: ReadClips) -> list[Prediction]:
    probabilities, share, counted = _mean_over_folds(fitted, read)
    modalities, classes = list(fitted.record.modalities), fitted.record.classes
    folds = f"mean over {len(fitted.models)} folds" if len(fitted.models) > 1 else ""
    unseen = [m for m in modalities if not any(normalization.seen[m] for normalization in fitted.normalizations)]
    predictions = []
    for i, clip in enumerate(clips):
        has = dict(zip(modalities, read.present[i].tolist(), strict=True))
        absent = [m for m in modalities if not has[m] or m in unseen]
        absence = f"no {', no '.join(absent)}" if absent else ""
        ignored = ", ".join(m for m in unseen if has[m])
        training = f"no training clip had {ignored}" if ignored else ""
        notes = [text for text in (absence, training, read.reasons.get(clip, ""), folds) if text]
        shares = {m: float(s) if counted[i] else None for m, s in zip(modalities, share[i], strict=True)}
        if len(absent) == len(modalities):
            predictions.append(Prediction(clip, None, None, {}, shares, "; ".join(notes)))
            continue
        values = dict(zip(classes, probabilities[i].tolist(), strict=True))
        best = int(probabilities[i].argmax())
        predictions.append(Prediction(clip, classes[best], values[classes[best]], values, shares, "; ".join(notes)))
    return predictions


def _mean_over_folds(fitted: FittedRun, read: ReadClips) -> tuple[Tensor, Tensor, Tensor]:
    """Softmax `(clips, classes)`, shares `(clips, modalities)`, both means over folds; clips with a defined share."""
    results = []
    for model, clips in read.of_folds(fitted):
        logits, share, counted = predict_shares(model, clips, attributor_of(fitted.record))
        results.append((logits[0].softmax(-1).cpu(), share[0].cpu(), counted[0].cpu()))
    probabilities, share, counted = (torch.stack(values) for values in zip(*results, strict=True))
    return probabilities.mean(0), share.mean(0), counted.all(0)
