"""Read clips for a fitted run: cached clips by id, or new media."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from amr.common.devices import choose_device
from amr.extract.cache.reader import IMPORTED, Cache
from amr.extract.cache.writer import Embedded
from amr.extract.named_clips import NamedClip
from amr.fusion.data.clips import Clips
from amr.fusion.data.dataset import read_embedding
from amr.fusion.model import FusionModel
from amr.fusion.run_axis.axes import take_steps
from amr.fusion.runs.record import RunRecord
from amr.fusion.runs.weights import FittedRun

CACHED_AT_ONCE = 1024
NOT_FINITE = "its values in the cache are not finite, see amr verify"


@dataclass(frozen=True)
class ReadClips:
    """Clips as a run's encoders embed them, before its normalization.

    Args:
        embeddings: Modality to `(clips, dim)`, or `(clips, steps, dim)` with NaN after each clip's last step.
        present: Bool `(clips, modalities)`.
        failures: For each clip, modality to the reason that it could not be read from the clip's files, now or when the
            cache was made.
    """

    embeddings: Mapping[str, Tensor]
    present: Tensor
    failures: Sequence[Mapping[str, str]]

    def notes(self, clip: int, absent: Sequence[str]) -> list[str]:
        """Remarks on the modalities that a clip lacks, and on those that could not be read.

        Args:
            clip: Index of the clip.
            absent: Modalities without an embedding.
        """
        by_reason: dict[str, list[str]] = {}
        for m, reason in self.failures[clip].items():
            by_reason.setdefault(reason, []).append(m)
        lacking = [m for m in absent if m not in self.failures[clip]]
        failed = [f"{', '.join(modalities)}: {reason}" for reason, modalities in by_reason.items()]
        return [*([f"no {', no '.join(lacking)}"] if lacking else []), *failed]

    def of_folds(self, fitted: FittedRun) -> Iterator[tuple[FusionModel, Clips]]:
        """Yield the model of each fold (one without folds), and the clips normalized for it; their target is 0."""
        for model, normalization in zip(fitted.models, fitted.normalizations, strict=True):
            device = next(model.parameters()).device
            present = normalization.mask(self.present.to(device))
            embeddings = normalization.apply({m: e.to(device) for m, e in self.embeddings.items()}, present)
            yield model, Clips(embeddings, present, torch.zeros(len(present), dtype=torch.long, device=device))


# called with the indices of some clips, and these clips
Handle = Callable[[Sequence[int], ReadClips], None]


def read_clips(
    fitted: FittedRun, clips: Sequence[NamedClip], device: str, handle: Handle, *, keep_steps: bool
) -> dict[int, str]:
    """Read clips in batches, so that memory does not grow with their number: ids in the run's cache, then media.

    A clip without media files is looked up in the cache by its name. So is every clip that is in the cache if the run's
    embeddings were imported, because new media then have no encoder.

    Args:
        fitted: Run with its models.
        clips: Clips.
        device: Device of the encoders: auto, cpu or cuda.
        handle: Function that gets every batch; batches are not in the order of the clips.
        keep_steps: Whether to keep the steps of embeddings; if not, they are averaged.

    Returns:
        Index of each clip that cannot be read -> the reason. `handle` does not get these.

    Raises:
        ValueError: The encoders are not those of the run.
        FileNotFoundError: Weights of the encoders are missing.
    """
    record = fitted.record
    imported = _imported(record)
    sought = [i for i, clip in enumerate(clips) if clip.files is None or imported]
    files = [i for i, clip in enumerate(clips) if clip.files is not None and not imported]
    unread = _read_cached(record, clips, sought, handle, keep_steps) if sought else {}
    for i in unread:
        if imported and clips[i].files is not None:
            unread[i] = f"{imported[0]} was imported, so there is no encoder for new media; {unread[i]}"
        elif clips[i].problem:
            unread[i] = f"{clips[i].problem}; {unread[i]}"
    if files:
        _embed_files(record, clips, files, device, handle, keep_steps)
    return unread


def is_imported(record: RunRecord) -> bool:
    """Whether a run was fitted on imported embeddings, so that only cached clips can be read."""
    return bool(_imported(record))


def _imported(record: RunRecord) -> list[str]:
    return [m for m, info in record.modalities.items() if info["encoder"].startswith(IMPORTED)]


def _read_cached(
    record: RunRecord, clips: Sequence[NamedClip], sought: Sequence[int], handle: Handle, keep_steps: bool
) -> dict[int, str]:
    """Read clips of the run's cache by id, and return the reasons for those that cannot be read."""
    path = Path(record.cache)
    if not path.is_file():
        return dict.fromkeys(sought, f"the run's cache {path} is missing")
    with Cache.open(path) as cache:
        row_of = {id_: row for row, id_ in enumerate(cache.table()["id"])}
        found = [i for i in sought if clips[i].name in row_of]
        unread = {i: f"no such id in {path}" for i in sought if clips[i].name not in row_of}
        try:
            check_embeddings(record, cache)
        except ValueError as error:
            return unread | dict.fromkeys(found, str(error))
        reasons = {m: cache.reasons(m) for m in record.modalities}
        has = {m: cache.present(m) for m in record.modalities}
        for start in range(0, len(found), CACHED_AT_ONCE):
            indices = found[start : start + CACHED_AT_ONCE]
            rows = np.array([row_of[clips[i].name] for i in indices])
            order, back = np.unique(rows, return_inverse=True)
            read = {m: read_embedding(cache, m, order, keep_steps=keep_steps) for m in record.modalities}
            embeddings = {m: values[back].float() for m, (values, _) in read.items()}
            present = torch.stack([read[m][1][back] for m in record.modalities], dim=-1)
            failures = []
            for row, i, is_present in zip(rows, indices, present.tolist(), strict=True):
                lacking = [m for m, here in zip(record.modalities, is_present, strict=True) if not here]
                why = {m: NOT_FINITE if has[m][row] else reasons[m].get(clips[i].name) for m in lacking}
                failures.append({m: reason for m, reason in why.items() if reason is not None})
            handle(indices, ReadClips(embeddings, present, failures))
    return unread


def check_embeddings(record: RunRecord, cache: Cache) -> None:
    """Raise ValueError if an embedding of a cache is not the one that a run was fitted on."""
    for m, info in record.modalities.items():
        if m not in cache.names or cache.info(m).fingerprint != info["fingerprint"]:
            raise ValueError(
                f"{cache.path} must hold the embedding {m} that the run was fitted on, got another. "
                "Fit again on this cache, or name media files."
            )


def _embed_files(
    record: RunRecord,
    clips: Sequence[NamedClip],
    files: Sequence[int],
    device: str,
    handle: Handle,
    keep_steps: bool,
) -> None:
    """Embed media files with the encoders of the run."""
    from amr.extract.encoders import build_encoder
    from amr.extract.run import embed_batches

    encoders = {m: build_encoder(info["encoder"], m) for m, info in record.modalities.items()}
    for m, encoder in encoders.items():
        info = record.modalities[m]
        for name in ("weights_sha256", "preprocessing"):
            if getattr(encoder, name) != info[name]:
                raise ValueError(
                    f"{name} of {encoder.spec} must be the run's own ({info[name]}), got {getattr(encoder, name)}. "
                    "Restore it, or fit again on a new cache."
                )

    def embedded(start: int, rows: dict[str, Embedded]) -> None:
        indices = files[start : start + len(next(iter(rows.values())).present)]
        failures: list[dict[str, str]] = [{} for _ in indices]
        for m in encoders:
            for failure in rows[m].failures:
                failures[failure.row - start][m] = failure.reason
        present = torch.from_numpy(np.stack([rows[m].present for m in encoders], axis=-1))
        handle(indices, ReadClips({m: _vectors(rows[m], keep_steps) for m in encoders}, present, failures))

    embed_batches(
        [clip for i in files if (clip := clips[i].files) is not None],
        [clips[i].name for i in files],
        encoders,
        embedded,
        device=choose_device(device),
    )


def _vectors(rows: Embedded, keep_steps: bool) -> Tensor:
    """Embeddings, `(clips, dim)`, or `(clips, steps, dim)` for heads that take steps."""
    steps = None if rows.num_steps is None else torch.from_numpy(rows.num_steps)
    return take_steps(torch.from_numpy(rows.values), steps, keep_steps=keep_steps).float()
