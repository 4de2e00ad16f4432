"""Predictions of a run for new media or cached clips: `amr predict`."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from amr.common.devices import choose_device
from amr.common.progress import Progress
from amr.common.workspace import find_run
from amr.extract.named_clips import named_clips
from amr.fusion.data.targets import readable
from amr.fusion.heads import heads
from amr.fusion.model import predict_shares
from amr.fusion.prediction import Prediction
from amr.fusion.runs.new_clips import ReadClips, read_clips
from amr.fusion.runs.read import chosen_run
from amr.fusion.runs.weights import FittedRun, attributor_of, read_fitted

PathOrId = str | os.PathLike[str]


def predict(
    run: str | os.PathLike[str],
    clips: PathOrId | Sequence[PathOrId],
    device: str = "auto",
    progress: Progress | None = None,
) -> list[Prediction]:
    """Predict clips, in the order given.

    A clip that is not found or cannot be read gets a prediction without a class, and a note that says why. Clips are
    read in batches, so their number is not limited by memory.

    Args:
        run: Folder or name of a run. Of a sweep or table, the best run by val is used; see `best_run`.
        clips: One clip, or several: media files, ids in the run's cache, folders of media, manifests and other CSV
            files with a column of clips; see `named_clips`.
        device: Device: auto, cpu or cuda.
        progress: Listener.

    Raises:
        ValueError: No clips are given, a CSV is damaged, or an encoder is not that of the run.
        FileNotFoundError: There is no such run, or weights of its encoders are missing.
    """
    progress = progress or Progress()
    texts = [os.fspath(clip) for clip in ([clips] if isinstance(clips, str | os.PathLike) else clips)]
    if not texts:
        raise ValueError("amr predict must be given at least one clip, got none. Name media files or cached ids.")
    fitted = read_fitted(chosen_run(find_run(run), progress), choose_device(device))
    kinds = {info["modality"] for info in fitted.record.modalities.values()}
    named = named_clips(texts, sorted(kinds))
    predictions: dict[int, Prediction] = {}
    progress.start(len(named))

    def handle(indices: Sequence[int], read: ReadClips) -> None:
        found = _predict(fitted, [named[i].name for i in indices], read)
        predictions.update(zip(indices, found, strict=True))
        progress.advance(len(indices), sum(prediction.pred is None for prediction in found))

    try:
        takes_steps = heads[fitted.record.config.head].takes_steps
        unread = read_clips(fitted, named, device, handle, keep_steps=takes_steps)
        if unread:
            progress.advance(len(unread), len(unread))
    finally:
        progress.stop()
    without_share = dict.fromkeys(fitted.record.modalities)
    for i, reason in unread.items():
        predictions[i] = Prediction(named[i].name, None, None, {}, dict(without_share), reason)
    return [predictions[i] for i in range(len(named))]


def _predict(fitted: FittedRun, names: Sequence[str], read: ReadClips) -> list[Prediction]:
    outputs, share, counted = _mean_over_folds(fitted, read)
    modalities = list(fitted.record.modalities)
    folds = f"mean over {len(fitted.models)} folds" if len(fitted.models) > 1 else ""
    unseen = [m for m in modalities if not any(normalization.seen[m] for normalization in fitted.normalizations)]
    older = "the run has no train mean, on which its shares depend: fit again for them" if fitted.lacks_mean else ""
    pairs = "by permutation, a single clip has no share" if attributor_of(fitted.record).uses_partners else ""
    predictions = []
    for i, name in enumerate(names):
        has = dict(zip(modalities, read.present[i].tolist(), strict=True))
        absent = [m for m in modalities if not has[m] or m in unseen]
        ignored = ", ".join(m for m in unseen if has[m])
        training = f"no training clip had {ignored}" if ignored else ""
        notes = [text for text in (*read.notes(i, absent), training, older, pairs, folds) if text]
        shares = {m: float(s) if counted[i] else None for m, s in zip(modalities, share[i], strict=True)}
        if len(absent) == len(modalities):
            predictions.append(Prediction(name, None, None, {}, shares, "; ".join(notes)))
            continue
        d = fitted.task.decision(outputs[i], fitted.record.classes)
        predictions.append(Prediction(name, d.text, d.probability, {**d.probabilities}, shares, "; ".join(notes)))
    return predictions


def _mean_over_folds(fitted: FittedRun, read: ReadClips) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities or numbers `(clips, outputs)`, shares `(clips, modalities)`, both means over folds; and which clips
    have a share.
    """
    results = []
    for (model, clips), scale in zip(read.of_folds(fitted), fitted.scales, strict=True):
        logits, share, counted = predict_shares(model, clips, attributor_of(fitted.record), of_each_clip=True)
        results.append((readable(logits[0], fitted.task, scale).cpu(), share[0].cpu(), counted[0].cpu()))
    outputs, share, counted = (torch.stack(values) for values in zip(*results, strict=True))
    return outputs.mean(0), share.mean(0), counted.all(0)
