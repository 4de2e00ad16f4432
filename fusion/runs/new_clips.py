"""Read clips for a fitted run: cached clips by id, or new media files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from amr.extract.cache.reader import Cache
from amr.extract.cache.writer import Embedded
from amr.fusion.data.clips import Clips
from amr.fusion.data.dataset import read_embedding
from amr.fusion.model import FusionModel
from amr.fusion.run_axis.axes import take_steps
from amr.fusion.runs.record import RunRecord
from amr.fusion.runs.weights import FittedRun


@dataclass(frozen=True)
class ReadClips:
    """Clips as a run's encoders embed them, before its normalization.

    Args:
        embeddings: Modality to `(clips, dim)`, or `(clips, steps, dim)` with NaN after each clip's last step.
        present: Bool `(clips, modalities)`.
        reasons: Clip to the reason that a modality of its file could not be read.
    """

    embeddings: Mapping[str, Tensor]
    present: Tensor
    reasons: Mapping[str, str]

    def of_folds(self, fitted: FittedRun) -> Iterator[tuple[FusionModel, Clips]]:
        """Yield the model of each fold (one without folds), and the clips normalized for it; their target is 0."""
        for model, normalization in zip(fitted.models, fitted.normalizations, strict=True):
            device = next(model.parameters()).device
            present = normalization.mask(self.present.to(device))
            embeddings = normalization.apply({m: e.to(device) for m, e in self.embeddings.items()}, present)
            yield model, Clips(embeddings, present, torch.zeros(len(present), dtype=torch.long, device=device))


def read_clips(fitted: FittedRun, clips: Sequence[str], device: str, *, keep_steps: bool) -> ReadClips:
    """Read clips, each a media file or the id of a cached clip, in the order given.

    Args:
        fitted: Run with its models.
        clips: Paths of media files, or ids in the run's cache.
        device: Device of the encoders: auto, cpu or cuda.
        keep_steps: Whether to keep the steps of embeddings; if not, they are averaged.

    Raises:
        ValueError: No clip is given, or one is neither a file nor an id; or the run's embeddings were imported, so new
            media have no encoder.
        FileNotFoundError: An id is given, but the run's cache does not exist.
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


def _cached(fitted: FittedRun, ids: Sequence[str], keep_steps: bool) -> dict[str, tuple[dict[str, Tensor], Tensor]]:
    path = Path(fitted.record.cache)
    if not path.is_file():
        raise FileNotFoundError(
            f"CLIP must be a media file, because the run's cache {path} is missing, got {ids[0]!r}. Name a file."
        )
    with Cache.open(path) as cache:
        row_of = {id_: row for row, id_ in enumerate(cache.table()["id"])}
        for id_ in ids:
            if id_ not in row_of:
                raise ValueError(
                    f"CLIP must be a media file or the id of a clip in {path}, got {id_!r}. "
                    "Check the path, or the manifest's ids."
                )
        rows = np.array([row_of[id_] for id_ in ids])
        check_embeddings(fitted.record, cache)
        order, back = np.unique(rows, return_inverse=True)
        embeddings = {
            m: read_embedding(cache, m, order, keep_steps=keep_steps)[back].float() for m in fitted.record.modalities
        }
        present = torch.from_numpy(np.stack([cache.present(m)[rows] for m in fitted.record.modalities], axis=-1))
    return {id_: ({m: e[i] for m, e in embeddings.items()}, present[i]) for i, id_ in enumerate(ids)}


def check_embeddings(record: RunRecord, cache: Cache) -> None:
    """Raise ValueError if an embedding of a cache is not the one that a run was fitted on."""
    for m, info in record.modalities.items():
        if m not in cache.names or cache.info(m).fingerprint != info["fingerprint"]:
            raise ValueError(
                f"{cache.path} must hold the embedding {m} that the run was fitted on, got another. "
                "Fit again on this cache, or name media files."
            )


def _extracted(
    fitted: FittedRun, files: Sequence[str], device: str, reasons: dict[str, str], keep_steps: bool
) -> dict[str, tuple[dict[str, Tensor], Tensor]]:
    from amr.extract.run import embed_clips

    for m, info in fitted.record.modalities.items():
        if info["encoder"].startswith("import"):
            raise ValueError(
                f"CLIP must be the id of a cached clip, because {m} was imported ({info['encoder']}), "
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
                    "Restore it, or fit again on a new cache."
                )
    for m, (_, embedded_rows) in embedded.items():
        for failure in embedded_rows.failures:
            reasons[files[failure.row]] = f"{m}: {failure.reason}"
    vectors = {m: _vectors(rows, keep_steps) for m, (_, rows) in embedded.items()}
    present = torch.from_numpy(np.stack([embedded[m][1].present for m in specs], axis=-1))
    return {file: ({m: vectors[m][i] for m in specs}, present[i]) for i, file in enumerate(files)}


def _vectors(rows: Embedded, keep_steps: bool) -> Tensor:
    """Embeddings, `(clips, dim)`, or `(clips, steps, dim)` for heads that take steps."""
    steps = None if rows.num_steps is None else torch.from_numpy(rows.num_steps)
    return take_steps(torch.from_numpy(rows.values), steps, keep_steps=keep_steps).float()
