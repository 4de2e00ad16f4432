"""Join the shards of an extraction into one cache, to the bit as one extraction of all clips would write it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from amr.common.files.lock import remove_left
from amr.common.progress import Progress
from amr.common.workspace import find_cache
from amr.extract.cache.arrays import row_blocks
from amr.extract.cache.fingerprint import differences
from amr.extract.cache.journal import Failure
from amr.extract.cache.reader import Cache, EmbeddingInfo
from amr.extract.cache.structure import ClipTable, cache_path, check_out, clips_of, notes_on_name
from amr.extract.cache.writer import Embedded, joined, save
from amr.extract.config import MergeConfig
from amr.extract.shards.shard import Shard, all_shards


@dataclass(frozen=True)
class MergeResult:
    """The outcome of a merge.

    Attributes:
        cache: Cache of all clips.
        shards: Number of shards.
        clips: Number of clips.
        embedded: Embedding name -> number of clips that have it.
        failed: Number of (clip, modality) pairs with a failure.
        notes: Messages for the user.
    """

    cache: Path
    shards: int
    clips: int
    embedded: dict[str, int]
    failed: int
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """JSON document of `amr merge`."""
        return {
            "cache": str(self.cache),
            "shards": self.shards,
            "clips": self.clips,
            "embedded": self.embedded,
            "failed": self.failed,
            "notes": self.notes,
        }


@dataclass(frozen=True)
class _Part:
    """Description of a shard, without its rows."""

    path: Path
    shard: Shard
    clips: ClipTable
    infos: dict[str, EmbeddingInfo]
    present: dict[str, np.ndarray]
    failures: pd.DataFrame
    complete: bool


def merge_shards(config: MergeConfig, progress: Progress | None = None) -> MergeResult:
    """Join the caches of all shards of a manifest, in blocks that fit into memory.

    Args:
        config: Shards and output.
        progress: Listener of the progress, which counts the rows of all embeddings.

    Raises:
        FileNotFoundError: A shard does not exist.
        ValueError: The shards do not belong together or are not all there, or the output is another file.
    """
    progress = progress or Progress()
    out = cache_path(str(config.out))
    check_out(out)
    paths = [find_cache(name, "SHARD") for name in config.shards]
    if out.exists() and any(path.samefile(out) for path in paths):
        raise ValueError(f"--out must be none of the shards, got {str(out)!r}. Choose another name.")
    parts = sorted((_read(path) for path in paths), key=lambda part: part.shard)
    _check(parts)
    clips = replace(parts[0].clips, table=pd.concat([part.clips.table for part in parts]), shard="")
    infos = [_joined_info([part.infos[name] for part in parts]) for name in parts[0].infos]
    failures = pd.concat([part.failures for part in parts], ignore_index=True)
    present = {info.name: np.concatenate([part.present[info.name] for part in parts]) for info in infos}
    notes = [*notes_on_name(out), *_notes_on_roots(parts)]
    for note in notes:
        progress.note(note)
    if not out.exists() or config.overwrite:
        _save(out, clips, infos, failures, parts, progress)
    elif not _is_merged(out, clips, infos, failures, present):
        raise ValueError(
            f"--out must be a new file, got {str(out)!r}, which is not what these shards give. "
            "Pass --overwrite to replace it."
        )
    remove_left(out)
    return MergeResult(
        cache=out,
        shards=len(parts),
        clips=len(clips.table),
        embedded={name: int(rows.sum()) for name, rows in present.items()},
        failed=len(failures[["id", "modality"]].drop_duplicates()),
        notes=notes,
    )


def _read(path: Path) -> _Part:
    with Cache.open(path) as cache:
        if not cache.shard:
            raise ValueError(
                f"SHARD must be made by amr extract --shard, got {str(path)!r}, which is a whole cache. Leave it out."
            )
        return _Part(
            path,
            Shard.parse(cache.shard),
            clips_of(cache),
            {name: cache.info(name) for name in cache.names},
            {name: cache.present(name) for name in cache.names},
            cache.failures,
            cache.complete,
        )


def _check(parts: Sequence[_Part]) -> None:
    """Refuse shards that are not all blocks of one manifest, each once and complete, with the same embeddings."""
    first = parts[0]
    for part in parts[1:]:
        if part.shard.count != first.shard.count:
            raise ValueError(
                f"SHARD must be shards of one division, got {first.shard} in {str(first.path)!r} and {part.shard} in "
                f"{str(part.path)!r}. Leave one of them out."
            )
        if (part.clips.dataset, part.clips.manifest_sha256) != (first.clips.dataset, first.clips.manifest_sha256):
            raise ValueError(
                f"SHARD must be of one manifest, got other clips, labels or splits in {str(part.path)!r} than in "
                f"{str(first.path)!r}. Run amr extract --shard {part.shard} again with the manifest of the others."
            )
    times = Counter(part.shard for part in parts)
    for shard, number in times.items():
        if number > 1:
            twice = " and ".join(repr(str(part.path)) for part in parts if part.shard == shard)
            raise ValueError(f"SHARD must be given once per block, got {shard} in {twice}. Leave one of them out.")
    if missing := [str(shard) for shard in all_shards(first.shard.count) if shard not in times]:
        raise ValueError(
            f"SHARD must be all {first.shard.count} shards, got none for {', '.join(missing)}. "
            f"Add it, or make it with amr extract --shard {missing[0]}."
        )
    for part in parts:
        if not part.complete:
            raise ValueError(
                f"SHARD must be complete, got {part.shard} in {str(part.path)!r}, whose extraction is not finished. "
                f"Run amr extract --shard {part.shard} again, unless it is still running."
            )
        _check_same_embeddings(first, part)


def _check_same_embeddings(first: _Part, part: _Part) -> None:
    if part.infos.keys() != first.infos.keys():
        raise ValueError(
            f"SHARD must have the embeddings of the others, got {', '.join(part.infos)} in {str(part.path)!r} and "
            f"{', '.join(first.infos)} in {str(first.path)!r}. Run amr extract --shard again with every --encoder."
        )
    for name, info in part.infos.items():
        if found := differences(first.infos[name], info):
            what, before, after = found[0]
            raise ValueError(
                f"SHARD must have the encoders of the others, got {name} with {what} {after} in {str(part.path)!r} "
                f"and {before} in {str(first.path)!r}. Run amr extract --shard {part.shard} again with --overwrite."
            )


def _joined_info(infos: Sequence[EmbeddingInfo]) -> EmbeddingInfo:
    return replace(infos[0], code_version=", ".join(dict.fromkeys(info.code_version for info in infos)))


def _notes_on_roots(parts: Sequence[_Part]) -> list[str]:
    """Note on media that lay in several places: explanations and previews look in the first."""
    roots = dict.fromkeys(part.clips.root for part in parts)
    if len(roots) == 1:
        return []
    return [f"the shards were made from media in {len(roots)} places; the cache names the first, {next(iter(roots))}"]


def _save(
    out: Path,
    clips: ClipTable,
    infos: Sequence[EmbeddingInfo],
    failures: pd.DataFrame,
    parts: Sequence[_Part],
    progress: Progress,
) -> None:
    num_clips = len(clips.table)
    progress.start(len(infos) * num_clips, unit="rows")
    try:
        embeddings = [(info, _blocks(parts, info, num_clips, progress)) for info in infos]
        save(out, clips, embeddings, [Failure(0, *map(str, row)) for row in failures.itertuples(index=False)])
    finally:
        progress.stop()


def _blocks(parts: Sequence[_Part], info: EmbeddingInfo, num_clips: int, progress: Progress) -> Iterator[Embedded]:
    """Rows of an embedding of all shards, in the blocks in which an extraction writes them: the file is the same."""
    blocks = row_blocks((num_clips, *info.row_shape), np.dtype(info.dtype))
    size = next(block.stop - block.start for block in blocks)
    waiting: list[Embedded] = []
    for rows in _rows(parts, info.name):
        progress.advance(len(rows.present))
        waiting.append(rows)
        if sum(len(each.present) for each in waiting) >= size:
            whole = joined(waiting)
            yield whole.cut(slice(size))
            waiting = [whole.cut(slice(size, None))]
    if waiting:
        yield joined(waiting)


def _rows(parts: Iterable[_Part], name: str) -> Iterator[Embedded]:
    for part in parts:
        with Cache.open(part.path) as cache:
            for block in cache.blocks(name):
                yield Embedded(block.values, block.present, block.num_steps, faces=block.faces)


def _is_merged(
    out: Path,
    clips: ClipTable,
    infos: Sequence[EmbeddingInfo],
    failures: pd.DataFrame,
    present: dict[str, np.ndarray],
) -> bool:
    """Whether a cache is what shards give: that of a command that was killed after its work, and given again."""
    with suppress(ValueError, RuntimeError), Cache.open(out) as cache:
        same_clips = clips_of(cache).table.equals(clips.table) and cache.manifest_sha256 == clips.manifest_sha256
        return (
            cache.complete
            and not cache.shard
            and same_clips
            and cache.names == [info.name for info in infos]
            and not any(differences(cache.info(info.name), info) for info in infos)
            and all(np.array_equal(cache.present(name), rows) for name, rows in present.items())
            and {*cache.failures.itertuples(index=False, name=None)} == {*failures.itertuples(index=False, name=None)}
        )
    return False
