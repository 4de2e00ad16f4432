"""Shards as tasks of Ray: two real nodes, a killed worker, a lost node, a disk that is not shared."""

from __future__ import annotations

import importlib.util
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amr.data_manifests.manifest import read_manifest
from amr.extract.config import ExtractConfig
from amr.extract.run import _extract_shard, extract_embeddings
from amr.extract.shards import on_ray
from amr.extract.shards.join import Begun, Divided
from amr.extract.shards.shard import Shard

from ...conftest import without
from .conftest import Seen, render_clips

pytestmark = pytest.mark.ray

NUM_CLIPS = 40
ENCODERS = ("audio=logmel", "video=frames,grid=4")


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    return render_clips(tmp_path_factory.mktemp("clips"), NUM_CLIPS, absent=30)


@pytest.fixture(scope="module")
def whole(clips, tmp_path_factory) -> tuple[bytes, dict[str, Any]]:
    """The file of an extraction in one process, and its result."""
    out = str(tmp_path_factory.mktemp("whole") / "whole.h5")
    config = ExtractConfig(manifest=str(clips), encoder=ENCODERS, batch_size=1, device="cpu", out=out)
    result = extract_embeddings(config)
    return result.cache.read_bytes(), comparable(result)


def comparable(result: Any) -> dict[str, Any]:
    left_out = dict.fromkeys(("cache", "notes", "seconds", "clips_per_second", "extracted"))
    return result.to_json() | left_out


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of one node with one CPU, to which tests add another."""
    if importlib.util.find_spec("ray") is None:
        without("ray", "pip install 'amr-fusion[ray]'")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield made
    made.shutdown()


@pytest.fixture
def config(clips, workspace) -> ExtractConfig:
    if importlib.util.find_spec("ray") is None:
        without("ray", "pip install 'amr-fusion[ray]'")
    return ExtractConfig(manifest=str(clips), encoder=ENCODERS, batch_size=1, workers=1, device="cpu", engine="ray")


@pytest.fixture
def second_node(cluster) -> Iterator[Callable[[Any], Any]]:
    """A function that adds a node with one CPU, once this process belongs to the first node."""
    import ray

    def add(cluster: Any) -> Any:
        ray.init(cluster.address, log_to_driver=False)
        added.append(cluster.add_node(num_cpus=1))
        cluster.wait_for_nodes()
        return added[0]

    added: list[Any] = []
    yield add
    for node in added:
        if node in cluster.worker_nodes:
            cluster.remove_node(node)
    cluster.wait_for_nodes()  # until the cluster knows that a lost one is lost
    ray.shutdown()


class Once(Seen):
    """A listener that does something once, as soon as it can be done, amid the work."""

    def __init__(self, deed: Callable[[], bool]) -> None:
        super().__init__()
        self.deed = deed
        self.is_done = False

    def advance(self, amount: float, failures: int = 0) -> None:
        super().advance(amount, failures)
        self.is_done = self.is_done or self.deed()


def workers(folder: Path) -> dict[int, int]:
    """Processes of tasks that have a file of a folder open, but not those that decode for them, to their parents."""
    found = {}
    for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        with suppress(OSError):
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            titles = [Path(f"/proc/{each}/cmdline").read_bytes().startswith(b"ray::_task") for each in (pid, parent)]
            files = [os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()]
            if titles == [True, False] and any(file.startswith(f"{folder}/") for file in files):
                found[pid] = parent
    return found


def check(seen: Once, config: ExtractConfig, whole: Any) -> None:
    result = extract_embeddings(config, seen)
    assert seen.is_done, "a shard was unfinished then"
    assert result.cache.read_bytes() == whole[0]
    assert comparable(result) == whole[1]
    assert sorted(path.name for path in result.cache.parent.iterdir()) == ["manifest.h5"]


def test_a_killed_worker_costs_time_and_nothing_else(cluster, second_node, config, whole, workspace):
    second_node(cluster)

    def kill() -> bool:
        pid = next(iter(workers(workspace)), None)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        return pid is not None

    check(Once(kill), replace(config, shards=4), whole)


def test_a_lost_node_costs_time_and_nothing_else(cluster, second_node, config, whole, workspace):
    node = second_node(cluster)
    raylet = node.all_processes["raylet"][0].process.pid

    def lose() -> bool:
        if is_busy := raylet in workers(workspace).values():
            cluster.remove_node(node, allow_graceful=False)
        return is_busy

    check(Once(lose), replace(config, shards=4), whole)


def test_a_disk_that_workers_do_not_share_sends_the_shards(cluster, config, whole, workspace, monkeypatch):
    mark = on_ray._mark

    @contextmanager
    def unseen(out: Path) -> Iterator[tuple[Path, str]]:
        with mark(out) as (file, _):
            yield file, "text of a file on another disk"

    monkeypatch.setattr(on_ray, "_mark", unseen)
    result = extract_embeddings(replace(config, address=cluster.address, shards=3))
    assert result.cache.read_bytes() == whole[0]
    assert [path.name for path in result.cache.parent.iterdir()] == ["manifest.h5"]


@pytest.fixture
def shard(clips, workspace, monkeypatch) -> ExtractConfig:
    """A shard for a worker whose temporary folder is that of the workspace."""
    (workspace / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(workspace / "tmp"))
    out = str(workspace / "elsewhere/clips.shard-1-of-9.h5")
    return ExtractConfig(manifest=str(clips), encoder=ENCODERS[:1], device="cpu", workers=0, shard="1/9", out=out)


@pytest.fixture
def begun(clips) -> Begun:
    """Clips of the first shard, as the process that divides them sees them."""
    manifest = read_manifest(clips)
    return Divided(manifest.sha256(), np.ones(len(manifest), bool), ("audio",)).begun(Shard(1, 9))


def embedded(shard: ExtractConfig, begun: Begun, workspace: Path, extract: Any = _extract_shard) -> bytes:
    content = on_ray._embed(lambda event: None, extract, shard, begun, workspace / "no mark", "secret")[1]
    assert content is not None
    return content.tobytes()


def test_a_worker_without_the_disk_has_a_folder_of_its_own_and_removes_it(shard, begun, workspace):
    modes = []

    def extract(config: ExtractConfig, progress: Any, begun: Begun) -> Any:
        modes.append(Path(str(config.out)).parent.stat().st_mode & 0o777)
        return _extract_shard(config, progress, begun)

    content = embedded(shard, begun, workspace, extract)
    assert modes == [0o700]
    assert [*(workspace / "tmp").iterdir()] == []
    assert content == extract_embeddings(shard).cache.read_bytes()


def test_a_worker_without_the_disk_resumes_what_a_lost_one_left(shard, begun, workspace):
    folder = workspace / "tmp/amr-secret-1-of-9"
    folder.mkdir()
    left = extract_embeddings(replace(shard, out=str(folder / Path(str(shard.out)).name))).cache.read_bytes()
    extracted = []

    def extract(config: ExtractConfig, progress: Any, begun: Begun) -> Any:
        result = _extract_shard(config, progress, begun)
        extracted.append(result.extracted)
        return result

    assert embedded(shard, begun, workspace, extract) == left
    assert extracted == [0]


def test_a_node_without_the_media_or_with_another_manifest_is_refused(shard, begun, workspace, clips):
    (workspace / "empty").mkdir()
    with pytest.raises(ValueError, match="the media must be at the same paths on every node, got none of 4 files"):
        embedded(replace(shard, root=str(workspace / "empty")), begun, workspace)
    with pytest.raises(ValueError, match="the manifest must be the same on every node"):
        embedded(shard, replace(begun, manifest_sha256="0" * 64), workspace)
    assert [*(workspace / "tmp").iterdir()] == []


def test_a_full_disk_is_named_where_a_shard_arrives(shard, workspace):
    result = extract_embeddings(shard)
    content = np.fromfile(result.cache, np.uint8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            on_ray._kept(result, workspace / "sent.h5", content)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not (workspace / "sent.h5").exists()


def test_a_worker_enters_no_folder_that_another_has_prepared(shard, begun, workspace):
    (workspace / "trap").mkdir()
    (workspace / "tmp/amr-secret-1-of-9").symlink_to(workspace / "trap")
    with pytest.raises(ValueError, match="the temporary folder of a worker must be its own"):
        embedded(shard, begun, workspace)
    assert [*(workspace / "trap").iterdir()] == []


def test_a_cache_that_exists_is_continued_without_starting_ray(config, monkeypatch):
    local = replace(config, engine="local")
    extract_embeddings(replace(local, encoder=ENCODERS[:1]))
    monkeypatch.setitem(sys.modules, "ray", None)  # importing it is an error
    seen = Seen()
    assert [*extract_embeddings(config, seen).embedded] == ["audio", "video"]
    assert any("what it lacks is embedded here" in str(event) for event in seen.events)


def test_what_a_worker_refuses_is_refused_here_and_ends_the_others(cluster, config, workspace):
    (workspace / "caches").mkdir()
    (workspace / "caches/manifest.shard-2-of-2.h5").write_text("mine")
    with pytest.raises(ValueError, match=r"manifest\.shard-2-of-2\.h5"):
        extract_embeddings(replace(config, address=cluster.address, shards=2))


def test_the_division_of_a_stopped_extraction_is_continued(clips, config, workspace):
    assert on_ray.begun_count(config) is None
    for shard in ("1/7", "2/7"):
        extract_embeddings(replace(config, engine="local", shard=shard))
    assert on_ray.begun_count(config) == 7
    assert on_ray.begun_count(replace(config, overwrite=True)) is None
    extract_embeddings(replace(config, engine="local", shard="1/2"))
    assert on_ray.begun_count(config) is None


def test_a_cluster_without_room_is_refused(cluster, config):
    with pytest.raises(ValueError, match=r"must have room for a worker, got no node with 1 GPU and 1 CPU\. Pass"):
        extract_embeddings(replace(config, address=cluster.address, num_gpus_per_worker=1))


def test_without_an_address_ray_is_started_and_ended(config, whole):
    import ray

    result = extract_embeddings(replace(config, workers=None))
    assert not ray.is_initialized()
    assert result.cache.read_bytes() == whole[0]
    again = Seen()
    extract_embeddings(config, again)
    assert any("what it lacks is embedded here" in str(event) for event in again.events)


def test_options_of_a_cluster_are_refused_without_one_and_one_without_ray(clips, config, monkeypatch):
    for name, value in (("address", "auto"), ("num_gpus_per_worker", 1.0), ("shards", 2)):
        with pytest.raises(ValueError, match=rf"--{name.replace('_', '-')} must be used with --engine ray"):
            ExtractConfig(manifest=str(clips), **{name: value})
    with pytest.raises(ValueError, match=r"--num-gpus-per-worker must be above 0 with --device cuda, got 0\. Pass"):
        replace(config, device="cuda")
    with pytest.raises(ValueError, match="--num-gpus-per-worker must be from 0 to 1"):
        replace(config, num_gpus_per_worker=2)
    for options in ({"shard": "1/2"}, {"device": "cpu,cpu"}):
        with pytest.raises(ValueError, match="--engine ray must divide the clips itself"):
            replace(config, **options)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"must have the package ray, got none\. Install it .*amr-fusion\[ray\]"):
        ExtractConfig(manifest=str(clips), engine="ray")


@pytest.mark.usefixtures("power_cuts")
def test_a_power_cut_loses_no_shard_that_was_sent(clips, workspace):
    result = extract_embeddings(ExtractConfig(manifest=str(clips), encoder=ENCODERS[:1], device="cpu", workers=0))
    on_ray._kept(result, workspace / "sent.h5", np.fromfile(result.cache, np.uint8))
    assert (workspace / "sent.h5").read_bytes() == result.cache.read_bytes()
