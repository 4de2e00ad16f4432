"""What extractions in shards share, wherever the shards are embedded: their configs before, their cache after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from amr.common.progress import Progress
from amr.common.workspace import caches_dir
from amr.extract.cache.reader import Cache
from amr.extract.cache.structure import cache_path, check_out
from amr.extract.cache.writer import check_replaceable
from amr.extract.config import ExtractConfig, MergeConfig
from amr.extract.shards.merge import merge_shards
from amr.extract.shards.shard import Shard, all_shards

if TYPE_CHECKING:
    from amr.extract.run import ExtractResult

Extract = Callable[[ExtractConfig, Progress], "ExtractResult"]


def default_out(config: ExtractConfig) -> Path:
    """Cache that a config writes, or whose shard it writes."""
    name = config.dataset or Path(str(config.manifest)).stem
    return cache_path(config.out) if config.out else caches_dir() / f"{name}.h5"


def is_begun(config: ExtractConfig) -> bool:
    """Whether the cache exists and is to be continued, which needs no shards."""
    return default_out(config).exists() and not config.overwrite


def continue_alone(config: ExtractConfig, count: int, progress: Progress, extract: Extract) -> ExtractResult:
    """Continue a cache in this process, and remove the shards that a kill after their joining left."""
    result = extract(config, progress)
    remove_shards(default_out(config), all_shards(count))
    return result


def shard_configs(config: ExtractConfig, count: int) -> list[ExtractConfig]:
    """Config of each shard, without `overwrite`: with it, the shards of earlier extractions are removed here.

    So what is given again after its process was lost continues.
    """
    out = default_out(config)
    check_out(out)
    paths = {shard: shard.path(out) for shard in all_shards(count)}
    if config.overwrite:
        for path in paths.values():
            check_replaceable(path)
            path.unlink(missing_ok=True)
    common = replace(config, overwrite=False, device=config.devices[0])
    return [
        replace(common, shard=str(shard), out=str(path), resume=config.resume and path.is_file())
        for shard, path in paths.items()
    ]


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
    remove_shards(out, all_shards(len(results)))
    return replace(
        results[0],
        cache=out,
        clips=merged.clips,
        present=sum(result.present for result in results),
        embedded=merged.embedded,
        absent={m: [id_ for result in results for id_ in result.absent[m]] for m in results[0].absent},
        failures=[failure for result in results for failure in result.failures],
        extracted=sum(result.extracted for result in results),
        seconds=seconds,
        notes=list(dict.fromkeys(note for result in results for note in result.notes)) + merged.notes,
    )


def remove_shards(out: Path, shards: Sequence[Shard]) -> None:
    """Remove the shards of a complete cache that holds their embeddings. Other files with their names stay."""
    with Cache.open(out) as cache:
        whole = cache.manifest_sha256, {*cache.names}
        if not cache.complete:
            return
    for shard in shards:
        path = shard.path(out)
        if path.is_file():
            with suppress(ValueError, RuntimeError), Cache.open(path) as cache:
                if cache.shard == str(shard) and cache.manifest_sha256 == whole[0] and {*cache.names} <= whole[1]:
                    path.unlink()
