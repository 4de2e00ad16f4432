"""One extraction on a Ray cluster: each task embeds a shard, and the shards are joined here."""

from __future__ import annotations

import os
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from amr.common.cluster.connect import connected, room_for
from amr.common.cluster.progress import Event, JoinedProgress, SentProgress
from amr.common.cluster.tasks import run_tasks
from amr.common.files import replacing, write_text
from amr.common.files.lock import Locked, lock
from amr.common.files.temporary import temporary_folder
from amr.common.progress import Progress
from amr.extract.config import ExtractConfig
from amr.extract.shards.join import (
    Begun,
    Divided,
    Extract,
    begun_count,
    default_out,
    join_shards,
    shard_configs,
    without_cluster,
)

if TYPE_CHECKING:
    from amr.extract.run import ExtractResult

SECONDS_FOR_LOST_WRITER = 120.0  # in which the worker of a lost node ends, and its lock with it
SECONDS_BETWEEN_TRIES = 1.0


def extract_on_ray(config: ExtractConfig, divided: Divided, progress: Progress, extract: Extract) -> ExtractResult:
    """Embed shards as tasks of a Ray cluster, and join them.

    A shard whose worker or node is lost begins again where its cache is, on another worker.

    Args:
        config: Config with the engine ray.
        divided: Clips of the extraction.
        progress: Listener of the progress of all shards.
        extract: Function that embeds one shard.

    Raises:
        ValueError: ray is not installed, or the cluster has no room for a worker.
        Exception: Whatever a shard raises. The others are ended, and finished clips are saved.
    """
    began = time.perf_counter()
    cpus = None if config.workers is None else max(1, config.workers)
    alone = _alone(config)
    with connected(config.address) as ray:
        room = room_for(ray, config.num_gpus_per_worker, cpus)
        count = config.shards or begun_count(alone) or room.workers
        workers = int(room.cpus) if config.workers is None else config.workers
        shards = [(replace(each, workers=workers), begun) for each, begun in shard_configs(alone, count, divided)]
        joined = JoinedProgress(progress, divided.num_present, min(count, room.workers))
        results: dict[int, ExtractResult] = {}
        try:
            with _mark(default_out(alone)) as mark:
                tasks = [(extract, *shard, *mark) for shard in shards]
                for index, (result, content) in run_tasks(ray, room, _embed, tasks, joined.take):
                    results[index] = _kept(result, Path(str(shards[index][0].out)), content)
        finally:
            progress.stop()
    return join_shards(alone, [results[index] for index in range(count)], progress, time.perf_counter() - began)


def _alone(config: ExtractConfig) -> ExtractConfig:
    """Config of the same extraction without a cluster, whose own paths are the same in every folder."""
    manifest, root = (None if each is None else os.path.abspath(each) for each in (config.manifest, config.root))
    out = str(default_out(config).absolute())
    return replace(without_cluster(config), manifest=manifest, root=root, out=out)


def _kept(result: ExtractResult, path: Path, content: np.ndarray | None) -> ExtractResult:
    """Result of a shard, whose cache is written here if it came as bytes."""
    if content is not None:
        with replacing(path, durable=True) as partial:
            partial.write_bytes(content.data)
    return replace(result, cache=path)


@contextmanager
def _mark(out: Path) -> Iterator[tuple[Path, str]]:
    """Yield a file beside the cache, and its text: a node that finds both shares the disk with this machine."""
    file, text = out.with_name(f".{out.name}.driver"), uuid.uuid4().hex
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, text)
    try:
        yield file, text
    finally:
        file.unlink(missing_ok=True)


def _embed(
    send: Callable[[Event], object], extract: Extract, config: ExtractConfig, begun: Begun, mark: Path, text: str
) -> tuple[ExtractResult, np.ndarray | None]:
    """Embed a shard on a worker.

    Returns:
        The result, and the bytes of the cache if the driver cannot see it: as an array, which Ray does not copy.
    """
    progress = SentProgress(send)
    if mark.is_file() and mark.read_text() == text:
        return _extract_once_free(extract, config, progress, begun), None
    with _own_folder(f"amr-{text}-{str(config.shard).replace('/', '-of-')}") as folder:
        out = str(folder / Path(str(config.out)).name)
        result = _extract_once_free(extract, replace(config, out=out), progress, begun)
        return result, np.fromfile(result.cache, np.uint8)


@contextmanager
def _own_folder(name: str) -> Iterator[Path]:
    """Yield a temporary folder that only this user may enter; it may be that of a worker that was lost.

    Raises:
        ValueError: Another user has made it, or it is a link.
    """
    folder = Path(temporary_folder(), name)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise ValueError(
            f"the temporary folder of a worker must be its own, got {str(folder)!r}, which is not. "
            "Run the same command again."
        )
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _extract_once_free(extract: Extract, config: ExtractConfig, progress: Progress, begun: Begun) -> ExtractResult:
    """Embed a shard, once the worker that had it before and was lost has ended.

    Raises:
        Locked: It is written all the time, by another command.
    """
    out = Path(str(config.out)).resolve()
    until, is_noted = time.monotonic() + SECONDS_FOR_LOST_WRITER, False
    while True:
        try:
            with lock(out):  # looked at first: to build the encoders for each try would take longer
                pass
            return extract(config, progress, begun)
        except Locked:
            if time.monotonic() > until:
                raise
            if not is_noted:
                progress.note(f"{out.name} is still written by another process: waiting for it")
                is_noted = True
            time.sleep(SECONDS_BETWEEN_TRIES)
