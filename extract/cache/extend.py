"""Write a cache anew with other clips, more embeddings, or clips that are tried again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from amr.common.files import check_space
from amr.data_manifests.schema import counted
from amr.extract.cache.fingerprint import clip_difference, differences
from amr.extract.cache.journal import Failure, Journal
from amr.extract.cache.reader import VERSION, Cache, EmbeddingInfo
from amr.extract.cache.structure import (
    ClipTable,
    allocate_embedding,
    begin,
    carry_embedding,
    clips_of,
    end,
    replacing_cache,
)

OVERWRITE = "--overwrite replaces the whole cache."
ROOM_ADVICE = "Free some space, or pass --out on another disk."


def extend(
    path: Path, clips: ClipTable, requested: dict[str, EmbeddingInfo], again: Mapping[str, np.ndarray]
) -> tuple[dict[str, EmbeddingInfo], dict[str, int]]:
    """Add embeddings to a cache, and refresh its clips.

    Returns:
        The requested infos as the cache has them, and what `_rewrite` found damaged.
    """
    damaged: dict[str, int] = {}
    with Cache.open(path) as cache:
        existing = {name: cache.info(name) for name in cache.names}
        old = clips_of(cache)
        same_clips = _identity(old) == _identity(clips) and old.table.equals(clips.table)
        _refuse_other_shard(path, old.shard, clips.shard)
        _refuse_other_clips(path, existing, old.table, clips.table)
        for name, info in requested.items():
            if name in existing:
                _refuse_other_encoder(existing[name], info)
        new = [info for name, info in requested.items() if name not in existing]
        journal = Journal(path)
        retried = {
            name: rows
            for name in again
            if name in existing and (rows := _failed(cache, name, journal) & again[name]).any()
        }
        if new or retried or not cache.complete:
            check_room(path, clips, [*new, *(existing[name] for name in retried)], path.stat().st_size)
        if new or retried or not same_clips or (cache.version != VERSION and not cache.complete):
            damaged = rewrite(cache, clips, new, again=retried)
    infos = {
        name: replace(info, encoder=existing[name].encoder, fingerprint=existing[name].fingerprint)
        if name in existing
        else info
        for name, info in requested.items()
    }
    return infos, damaged


def _refuse_other_shard(path: Path, old: str, new: str) -> None:
    if old != new:
        wanted, found = (f"shard {shard}" if shard else "no shard" for shard in (new, old))
        raise ValueError(
            f"--out must be a cache of {wanted}, got {str(path)!r}, which is {found}. "
            f"Pass another --out, or leave it out. {OVERWRITE}"
        )


def _refuse_other_clips(path: Path, existing: dict[str, EmbeddingInfo], old: pd.DataFrame, new: pd.DataFrame) -> None:
    for info in existing.values():
        difference = clip_difference(old, new, info.modality)
        if difference is not None:
            raise ValueError(
                f"--out must be a cache of the same clips, got {str(path)!r}, which {difference}. "
                f"Pass another --out. {OVERWRITE}"
            )


def _refuse_other_encoder(old: EmbeddingInfo, new: EmbeddingInfo) -> None:
    found = differences(old, new)
    if any(what == "encoder" for what, *_ in found):  # preprocessing follows from the spec
        both_have_weights = bool(old.weights_sha256 and new.weights_sha256)
        named = {"encoder", "dtype"} | ({"weights_sha256"} if both_have_weights else set())
        found = [each for each in found if each[0] in named]
    if found:
        was = ", ".join(f"{what} {before}" for what, before, _ in found)
        got = ", ".join(f"{what} {after}" for what, _, after in found) if len(found) > 1 else found[0][2]
        raise ValueError(
            f"--encoder {new.name} must be the one the cache was made with ({was}), got {got}. "
            f"Pass it under another name to add it, or another --out. {OVERWRITE}"
        )


def _identity(clips: ClipTable) -> tuple[str, str, str]:
    return clips.dataset, clips.root, clips.manifest_sha256


def _failed(cache: Cache, name: str, journal: Journal | None = None) -> np.ndarray:
    """Mask of the clips with a failure in the table, or in the journal of an interrupted extraction, `(clips,)`."""
    without = cache.done(name) & ~cache.present(name)
    failed = cache.table()["id"].isin(cache.reasons(name)).to_numpy(copy=True)
    if journal is not None:
        failed[[failure.row for failure in journal.read({cache.info(name).fingerprint: without})]] = True
    return failed & without


def _lasting(cache: Cache, again: Mapping[str, np.ndarray]) -> list[tuple[str, ...]]:
    """Failures of a cache, without those of clips that every embedding that has them tries again."""
    failures = [*cache.failures.itertuples(index=False, name=None)]
    if not again:
        return failures
    ids = cache.table()["id"].to_numpy()
    tried = {name: {*ids[rows]} for name, rows in again.items()}
    failed = {name: {*ids[_failed(cache, name)]} for name in cache.names}
    modality = {name: cache.info(name).modality for name in cache.names}
    lasting: list[tuple[str, ...]] = []
    for id_, of_modality, reason in failures:
        owners = [name for name in cache.names if modality[name] == of_modality and id_ in failed[name]]
        if not all(id_ in tried.get(name, ()) for name in owners):
            lasting.append((id_, of_modality, reason))
    return lasting


def rewrite(
    cache: Cache,
    clips: ClipTable,
    new: Sequence[EmbeddingInfo] = (),
    journal: Journal | None = None,
    again: Mapping[str, np.ndarray] | None = None,
) -> dict[str, int]:
    """Replace a cache by one with these clips, more embeddings, and the failures of a journal, in the current version.

    Args:
        cache: Open cache.
        clips: Clips of the new cache.
        new: Embeddings in which no clip is done.
        journal: Journal of an extraction that has ended.
        again: Embedding name -> mask of the clips that are no longer done, and whose failures go, `(clips,)`.

    Returns:
        Embedding name -> number of rows that changed since they were written, and are no longer done.
    """
    again = again or {}
    with replacing_cache(cache.path) as file:
        begin(file, clips, created_by=cache.created_by, is_ordered=cache.is_ordered)
        done = {name: carry_embedding(cache, file, name, again.get(name)) for name in cache.names}
        for info in new:
            allocate_embedding(file, info, len(clips.table))
        failures = (
            []
            if journal is None
            else journal.read({cache.info(name).fingerprint: done[name] & ~cache.present(name) for name in done})
        )
        end(file, [*_lasting(cache, again), *map(of_table, failures)])
    damaged = {name: int((cache.done(name) & ~done[name] & ~again.get(name, np.False_)).sum()) for name in done}
    return {name: num_rows for name, num_rows in damaged.items() if num_rows}


def notes_on_damage(damaged: dict[str, int]) -> list[str]:
    """Notes on what `rewrite` found damaged."""
    return [
        f"{counted(num_rows, 'row', 'rows')} of {name} changed since written: made again once {name} is extracted"
        for name, num_rows in damaged.items()
    ]


def of_table(failure: Failure) -> tuple[str, str, str]:
    """Row of the table of failures."""
    return failure.id, failure.modality, failure.reason


def check_room(path: Path, clips: ClipTable, new: Sequence[EmbeddingInfo], old_bytes: int = 0) -> None:
    """Refuse to begin what the disk has no room for: a cache is written again to finish it."""
    num_bytes = old_bytes + 2 * num_bytes_of(new, len(clips.table))
    check_space(path.parent, num_bytes, "--out", ROOM_ADVICE)


def num_bytes_of(infos: Sequence[EmbeddingInfo], num_clips: int) -> int:
    """Number of bytes of embeddings."""
    return sum(num_clips * math.prod(info.row_shape) * np.dtype(info.dtype).itemsize for info in infos)
