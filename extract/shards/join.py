"""What extractions in shards share, wherever the shards are embedded: their configs before, their cache after."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from amr.common.files.lock import lock, remove_left
from amr.common.progress import Progress
from amr.common.workspace import caches_dir
from amr.extract.cache.fingerprint import differences
from amr.extract.cache.journal import Journal
from amr.extract.cache.reader import Cache
from amr.extract.cache.structure import cache_path, check_out
from amr.extract.cache.writer import check_replaceable, check_resumable
from amr.extract.config import ExtractConfig, MergeConfig
from amr.extract.shards.merge import merge_shards
from amr.extract.shards.shard import Shard, all_shards

if TYPE_CHECKING:
    from amr.extract.run import ExtractResult


@dataclass(frozen=True)
class Begun:
    """Clips of a shard, as the process that divides them sees them. Whoever embeds them must see the same.

    Attributes:
        manifest_sha256: Checksum of the whole manifest.
        num_present: Number of the shard's clips of which a file exists.
    """

    manifest_sha256: str
    num_present: int


@dataclass(frozen=True)
class Divided:
    """Clips that are divided into shards.

    Attributes:
        manifest_sha256: Checksum of the manifest.
        exist: Mask of the clips of which a file exists, `(clips,)`.
        names: Names of the requested embeddings.
    """

    manifest_sha256: str
    exist: np.ndarray
    names: tuple[str, ...]

    @property
    def num_present(self) -> int:
        """Number of clips of which a file exists."""
        return int(self.exist.sum())

    def begun(self, shard: Shard) -> Begun:
        """The checksum, and the number of the shard's clips with a file."""
        rows = shard.rows(len(self.exist))
        return Begun(self.manifest_sha256, int(self.exist[rows.start : rows.stop].sum()))


# embeds the shard of a config
Extract = Callable[[ExtractConfig, Progress, Begun], "ExtractResult"]


def default_out(config: ExtractConfig) -> Path:
    """Cache that a config writes, or whose shard it writes."""
    name = config.dataset or Path(str(config.manifest)).stem
    return cache_path(config.out) if config.out else caches_dir() / f"{name}.h5"


def is_begun(config: ExtractConfig) -> bool:
    """Whether the cache exists and is to be continued, which needs no shards."""
    return default_out(config).exists() and not config.overwrite


def continue_alone(
    config: ExtractConfig, progress: Progress, extract: Callable[[ExtractConfig, Progress], ExtractResult]
) -> ExtractResult:
    """Continue a cache in this process, and remove the shards that a kill after their joining left."""
    out = default_out(config)
    where = "here" if config.engine == "ray" else f"on {config.devices[0]} alone"
    progress.note(f"{out} exists: what it lacks is embedded {where}")
    result = extract(replace(without_cluster(config), device=config.devices[0]), progress)
    remove_shards(out, shards_beside(out))
    return result


def without_cluster(config: ExtractConfig) -> ExtractConfig:
    """Config of the same extraction without a cluster."""
    return replace(config, engine="local", address=None, num_gpus_per_worker=0.0, shards=None)


def shards_beside(out: Path) -> list[Path]:
    """Files that are named as shards of a cache, of any division."""
    return _beside(out)


def _beside(out: Path, ending: str = "") -> list[Path]:
    return sorted(out.parent.glob(f"{glob.escape(out.stem)}.shard-*-of-*{glob.escape(out.suffix)}{ending}"))


def begun_count(config: ExtractConfig) -> int | None:
    """Number of shards that an earlier extraction divided the clips into; None without one to continue."""
    counts = {path.stem.rpartition("-of-")[2] for path in shards_beside(default_out(config))}
    only = counts.pop() if len(counts) == 1 and not config.overwrite else ""
    return int(only) if only.isdecimal() and int(only) > 0 else None


def check_begin(config: ExtractConfig) -> None:
    """Refuse a cache that shards cannot be joined into, before any work is done.

    Raises:
        ValueError: The cache cannot be written, or is to replace another kind of file.
        FileNotFoundError: `resume` is set, and there is no shard to continue.
    """
    out = default_out(config)
    check_out(out)
    if config.overwrite:
        check_replaceable(out)
    if config.resume and not shards_beside(out):
        check_resumable(out.resolve())


def shard_configs(config: ExtractConfig, count: int, divided: Divided) -> list[tuple[ExtractConfig, Begun]]:
    """Config and clips of each shard, without `overwrite`: with it, the shards of earlier extractions are removed here.

    So what is given again after its process was lost continues.

    Args:
        config: Config of the whole extraction.
        count: Number of shards.
        divided: Clips of the extraction.

    Raises:
        ValueError: A shard of an earlier extraction could not be joined with the others.
    """
    out = default_out(config)
    paths = {shard: shard.path(out) for shard in all_shards(count)}
    if config.overwrite:
        for path in filter(os.path.lexists, paths.values()):
            with lock(path.resolve()):
                check_replaceable(path)
                _remove(path)
    _check_names([*paths.values()], divided.names)
    common = replace(config, overwrite=False, device=config.devices[0])
    return [(replace(common, shard=str(each), out=str(path)), divided.begun(each)) for each, path in paths.items()]


def _check_names(paths: Sequence[Path], names: Sequence[str]) -> None:
    """Refuse shards that have another embedding than the requested ones, unless all of them have it, finished."""
    finished: Counter[str] = Counter()
    seen_in: dict[str, Path] = {}
    for path in filter(Path.is_file, paths):
        with Cache.open(path) as cache:
            seen_in |= dict.fromkeys(cache.names, path)
            finished.update(name for name in cache.names if cache.done(name).all())
    for name, path in seen_in.items():
        if name not in names and finished[name] < len(paths):
            raise ValueError(
                f"--encoder must name every embedding that the shards have begun, got none for {name} of "
                f"{str(path)!r}. Add it, or pass --overwrite to begin again."
            )


def join_shards(
    config: ExtractConfig, results: Sequence[ExtractResult], progress: Progress, seconds: float
) -> ExtractResult:
    """Join finished shards into the cache that a config names, and remove them.

    Args:
        config: Config of the whole extraction.
        results: Result of each shard, in order.
        progress: Listener of the progress.
        seconds: Time that the extraction of the shards took.
    """
    out = default_out(config)
    paths = tuple(str(result.cache) for result in results)
    merged = merge_shards(MergeConfig(paths, str(out), overwrite=config.overwrite), progress)
    remove_shards(out, shards_beside(out))
    return replace(
        results[0],
        cache=out,
        clips=merged.clips,
        present=sum(result.present for result in results),
        embedded=merged.embedded,
        absent={m: [id_ for result in results for id_ in result.absent[m]] for m in results[0].absent},
        failures=[failure for result in results for failure in result.failures],
        without_face={name: sum(result.without_face[name] for result in results) for name in results[0].without_face},
        extracted=sum(result.extracted for result in results),
        seconds=seconds,
        notes=list(dict.fromkeys(note for result in results for note in result.notes)) + merged.notes,
    )


def remove_shards(out: Path, shards: Sequence[Path]) -> None:
    """Remove the shards of a complete cache that holds their embeddings, and locks that a killed process left.

    Other files, and those in use, stay.
    """
    with Cache.open(out) as cache:
        if not cache.complete:
            return
        sha256, infos = cache.manifest_sha256, {name: cache.info(name) for name in cache.names}
    for path in filter(Path.is_file, shards):
        with suppress(ValueError, RuntimeError), lock(path.resolve()), Cache.open(path) as cache:
            if (
                cache.shard
                and cache.manifest_sha256 == sha256
                and all(name in infos and not differences(infos[name], cache.info(name)) for name in cache.names)
            ):
                _remove(path)
    for left in _beside(out, ".lock"):
        remove_left(left.with_suffix(""))


def _remove(path: Path) -> None:
    """Remove a shard and the failures of its interrupted extraction."""
    Journal(path.resolve()).remove()
    path.unlink()
