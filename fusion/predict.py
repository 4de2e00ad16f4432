"""What a run makes of new media files or of cached clips: `amr predict`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from amr.common.devices import choose_device
from amr.extract.cache.reader import Cache
from amr.extract.cache.writer import Embedded
from amr.fusion.data.clips import Clips, predict_shares
from amr.fusion.data.dataset import read_embedding, take_steps
from amr.fusion.heads import heads
from amr.fusion.model import FusionModel
from amr.fusion.runs.record import FittedRun, RunRecord, load_run


@dataclass(frozen=True)
class Prediction:
    """What a run makes of one clip.

    Args:
        clip: the path or the id that was asked for.
        pred: the class; None where the clip has none of the modalities.
        probability: its softmax probability; averaged over folds, where there are folds.
        probabilities: of every class.
        share: modality to its share of the decision; None where the clip has fewer than two of the modalities.
        note: what people should know: an absent modality, folds that were averaged.
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
        run: folder of a run.
        clips: paths of media files, or ids in the run's cache.
        device: auto, cpu or cuda.

    Raises:
        ValueError: no clip was named, or a name is neither a file nor an id; or the run's embeddings were imported,
            so that there is no encoder for new media.
        FileNotFoundError: no such run, or its cache is gone and an id was asked for.
    """
    fitted = load_run(run, choose_device(device))
    read = read_clips(fitted, clips, device, keep_steps=heads[fitted.record.config.head].takes_steps)
    return _predict(fitted, clips, read)


@dataclass(frozen=True)
class ReadClips:
    """Clips as a run's encoders give them, before its normalization.

    Args:
        embeddings: modality to `(clips, dim)`, or `(clips, steps, dim)` with NaN behind each clip's own.
        present: bool `(clips, modalities)`.
        reasons: clip to why it lacks a modality that is there and could not be read.
    """

    embeddings: Mapping[str, Tensor]
    present: Tensor
    reasons: Mapping[str, str]

    def of_folds(self, fitted: FittedRun) -> Iterator[tuple[FusionModel, Clips]]:
        """Each fold's model, or the only one, and the clips as it takes them; their target is 0."""
        for model, normalization in zip(fitted.models, fitted.normalizations, strict=True):
            device = next(model.parameters()).device
            there = self.present.to(device)
            normalised = normalization.apply({m: e.to(device) for m, e in self.embeddings.items()}, there)
            yield model, Clips(normalised, there, torch.zeros(len(there), dtype=torch.long, device=device))


def read_clips(fitted: FittedRun, clips: Sequence[str], device: str, *, keep_steps: bool) -> ReadClips:
    """Read clips, each a media file or the id of a cached clip, in the order given.

    Args:
        fitted: the run.
        clips: paths of media files, or ids in the run's cache.
        device: auto, cpu or cuda: where encoders run.
        keep_steps: keep steps where embeddings have them; else average them.

    Raises:
        ValueError: no clip was named, or a name is neither a file nor an id; or the run's embeddings were imported,
            so that there is no encoder for new media.
        FileNotFoundError: the run's cache is gone and an id was asked for.
    """
    if not clips:
        raise ValueError("amr predict must be given at least one clip, got none. Name media files or cached ids.")
    files = [clip for clip in clips if Path(clip).is_file()]
    ids = [clip for clip in clips if not Path(clip).is_file()]
    rows: dict[str, tuple[dict[str, Tensor], Tensor]] = {}
    reasons: dict[str, str] = {}
    if ids:
        rows |= _cached(fitted, ids, keep_steps)
    if files:
        rows |= _extracted(fitted, files, device, reasons, keep_steps)
    embeddings = {m: torch.stack([rows[clip][0][m] for clip in clips]) for m in fitted.record.modalities}
    return ReadClips(embeddings, torch.stack([rows[clip][1] for clip in clips]), reasons)


def _predict(fitted: FittedRun, clips: Sequence[str], read: ReadClips) -> list[Prediction]:
    probabilities, share, counted = _averaged(fitted, read)
    modalities, classes = list(fitted.record.modalities), fitted.record.classes
    folds = f"mean over {len(fitted.models)} folds" if len(fitted.models) > 1 else ""
    predictions = []
    for i, clip in enumerate(clips):
        absent = [m for m, there in zip(modalities, read.present[i].tolist(), strict=True) if not there]
        lacks = f"no {', no '.join(absent)}" if absent else ""
        notes = [text for text in (lacks, read.reasons.get(clip, ""), folds) if text]
        shares = {m: float(s) if counted[i] else None for m, s in zip(modalities, share[i], strict=True)}
        if len(absent) == len(modalities):
            predictions.append(Prediction(clip, None, None, {}, shares, "; ".join(notes)))
            continue
        values = dict(zip(classes, probabilities[i].tolist(), strict=True))
        best = int(probabilities[i].argmax())
        predictions.append(Prediction(clip, classes[best], values[classes[best]], values, shares, "; ".join(notes)))
    return predictions


def _averaged(fitted: FittedRun, read: ReadClips) -> tuple[Tensor, Tensor, Tensor]:
    """Softmax `(clips, classes)`, shares `(clips, modalities)` and whether they count, averaged over folds."""
    results = []
    for model, clips in read.of_folds(fitted):
        logits, share, counted = predict_shares(model, clips, fitted.record.attributor)
        results.append((logits[0].softmax(-1).cpu(), share[0].cpu(), counted[0].cpu()))
    probabilities, share, counted = (torch.stack(values) for values in zip(*results, strict=True))
    return probabilities.mean(0), share.mean(0), counted.all(0)


def _cached(fitted: FittedRun, ids: Sequence[str], keep_steps: bool) -> dict[str, tuple[dict[str, Tensor], Tensor]]:
    path = Path(fitted.record.cache)
    if not path.is_file():
        raise FileNotFoundError(
            f"CLIP must be a media file where the run's cache {path} is gone, got {ids[0]!r}. Name a file."
        )
    with Cache.open(path) as cache:
        places = {id_: row for row, id_ in enumerate(cache.clips["id"])}
        for id_ in ids:
            if id_ not in places:
                raise ValueError(
                    f"CLIP must be a media file or the id of a clip in {path}, got {id_!r}. "
                    "Check the path, or the manifest's ids."
                )
        rows = np.array([places[id_] for id_ in ids])
        check_embeddings(fitted.record, cache)
        order, back = np.unique(rows, return_inverse=True)
        embeddings = {
            m: read_embedding(cache, m, order, keep_steps=keep_steps)[back].float() for m in fitted.record.modalities
        }
        present = torch.from_numpy(np.stack([cache.present(m)[rows] for m in fitted.record.modalities], axis=-1))
    return {id_: ({m: e[i] for m, e in embeddings.items()}, present[i]) for i, id_ in enumerate(ids)}


def check_embeddings(record: RunRecord, cache: Cache) -> None:
    """Refuse a cache whose embeddings are not those that a run was fitted on.

    Raises:
        ValueError: one is gone or another; the message names it.
    """
    for m, info in record.modalities.items():
        if m not in cache.names or cache.info(m).fingerprint != info["fingerprint"]:
            raise ValueError(
                f"{cache.path} must hold the embedding {m} that the run was fitted on, got another. Fit again on it, "
                "or name media files."
            )


def _extracted(
    fitted: FittedRun, files: Sequence[str], device: str, reasons: dict[str, str], keep_steps: bool
) -> dict[str, tuple[dict[str, Tensor], Tensor]]:
    from amr.extract.run import embed_clips

    for m, info in fitted.record.modalities.items():
        if info["encoder"].startswith("import"):
            raise ValueError(
                f"CLIP must be the id of a cached clip where embeddings were imported ({m}: {info['encoder']}), "
                f"got the file {files[0]!r}. Name ids."
            )
    specs = {m: info["encoder"] for m, info in fitted.record.modalities.items()}
    embedded = embed_clips([Path(file) for file in files], specs, device=device)
    for m, (found, _) in embedded.items():
        info = fitted.record.modalities[m]
        for name in ("weights_sha256", "preprocessing"):
            if getattr(found, name) != info[name]:
                raise ValueError(
                    f"{name} of {specs[m]} must be the run's own ({info[name]}), got {getattr(found, name)}. "
                    "Bring it back, or fit again on a new cache."
                )
    for m, (_, embedded_rows) in embedded.items():
        for failure in embedded_rows.failures:
            reasons[files[failure.row]] = f"{m}: {failure.reason}"  # why it is not merely absent
    vectors = {m: _vectors(rows, keep_steps) for m, (_, rows) in embedded.items()}
    present = torch.from_numpy(np.stack([embedded[m][1].present for m in specs], axis=-1))
    return {file: ({m: vectors[m][i] for m in specs}, present[i]) for i, file in enumerate(files)}


def _vectors(rows: Embedded, keep_steps: bool) -> Tensor:
    """`(clips, dim)`, or `(clips, steps, dim)` for heads that take steps."""
    steps = None if rows.num_steps is None else torch.from_numpy(rows.num_steps)
    return take_steps(torch.from_numpy(rows.values), steps, keep_steps=keep_steps).float()
