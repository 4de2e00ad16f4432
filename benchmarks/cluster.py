"""Ray against one process, on a cluster of two nodes with one CPU each: time, and what a lost worker or node costs.

Rendered clips, embedded by encoders without weights; then a sweep of their embeddings. The nodes are processes of this
machine (`ray.cluster_utils.Cluster`). Every file must equal that of one process to the bit, or the script fails.

    python benchmarks/cluster.py [--clips 1000] [--shards 8]
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
import torch
from ray.cluster_utils import Cluster
from rich.console import Console
from rich.table import Table
from rounds import machine

from amr.common.cluster.options import ClusterOptions
from amr.common.progress import Progress
from amr.data_manifests.synthetic import SyntheticConfig, render
from amr.extract.config import ExtractConfig
from amr.extract.run import extract_embeddings
from amr.fusion.sweep.sweep import sweep
from amr.fusion.swept import SweepConfig

ENCODERS = ("audio=logmel", "video=frames")


class Deed(Progress):
    """A listener that does something once, when half of the work is done and it can be done.

    Args:
        do: Function that does it, and returns whether it could.
    """

    def __init__(self, do: Callable[[], bool] = lambda: True) -> None:
        self.do = do
        self.total = self.done = 0.0
        self.is_done = False

    def start(self, total: float, done: float = 0, unit: str = "clips") -> None:
        """Begin to count."""
        self.total, self.done = total, done

    def advance(self, amount: float, failures: int = 0) -> None:
        """Count, and do it in the middle."""
        self.done += amount
        self.is_done = self.is_done or (self.done >= self.total / 2 and self.do())


@contextmanager
def two_nodes() -> Iterator[tuple[Cluster, Any]]:
    """A cluster that this process is connected to, and its second node."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        ray.init(cluster.address, log_to_driver=False)
        node = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        yield cluster, node
    finally:
        ray.shutdown()
        cluster.shutdown()


def tasks() -> dict[int, int]:
    """Process of each task of Ray, to its parent; not the processes that decode for them."""
    found = {}
    for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        with suppress(OSError):
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            titles = [Path(f"/proc/{each}/cmdline").read_bytes().startswith(b"ray::_task") for each in (pid, parent)]
            if titles == [True, False]:
                found[pid] = parent
    return found


def kill_task() -> bool:
    """Kill a task, if there is one."""
    pid = next(iter(tasks()), None)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    return pid is not None


def remove_node(cluster: Cluster, node: Any) -> bool:
    """Remove a node, if it has a task."""
    raylet = node.all_processes["raylet"][0].process.pid
    if is_busy := raylet in tasks().values():
        cluster.remove_node(node, allow_graceful=False)
    return is_busy


def extractions(config: ExtractConfig, shards: int) -> Iterator[tuple[str, float, bytes]]:
    """Yield what was done, its seconds, and the file, of each way to extract."""

    def extracted(what: str, config: ExtractConfig, deed: Deed) -> tuple[str, float, bytes]:
        began = time.perf_counter()
        result = extract_embeddings(replace(config, overwrite=True), deed)
        if not deed.is_done:
            raise RuntimeError(f"{what}: it ended before")
        return what, time.perf_counter() - began, result.cache.read_bytes()

    yield extracted("extract, one process with two that decode", replace(config, workers=2), Deed())
    yield extracted("extract, --device cpu,cpu", replace(config, device="cpu,cpu"), Deed())
    on_ray = replace(config, engine="ray", shards=shards)
    yield extracted("extract, --engine ray, started for it", on_ray, Deed())
    with two_nodes():
        yield extracted("extract, --engine ray, two nodes", on_ray, Deed())
    with two_nodes():
        yield extracted("the same, a worker killed in the middle", on_ray, Deed(kill_task))
    with two_nodes() as (cluster, node):
        yield extracted("the same, a node removed in the middle", on_ray, Deed(lambda: remove_node(cluster, node)))


def sweeps(config: SweepConfig) -> Iterator[tuple[str, float, bytes]]:
    """Yield what was done, its seconds, and its table, of each way to sweep."""

    def swept(what: str, cluster: ClusterOptions | None) -> tuple[str, float, bytes]:
        shutil.rmtree(str(config.base.out), ignore_errors=True)  # a sweep that is there is not made again
        began = time.perf_counter()
        result = sweep(config, cluster=cluster)
        return what, time.perf_counter() - began, (result.folder / "results.csv").read_bytes()

    yield swept("sweep of 65 runs, two threads", None)
    with two_nodes():
        yield swept("sweep, --engine ray, two nodes", ClusterOptions(engine="ray"))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--shards", type=int, default=8)
    arguments = parser.parse_args()
    table = Table("command", "seconds", "as one process")
    with TemporaryDirectory() as folder:
        os.environ["AMR_HOME"] = folder
        render(SyntheticConfig(num_clips=arguments.clips), Path(folder, "clips"))
        manifest, cache = f"{folder}/clips/manifest.csv", f"{folder}/cache.h5"
        extract = ExtractConfig(manifest=manifest, encoder=ENCODERS, workers=1, device="cpu", out=cache)
        ratios = ",".join(["none", *(f"{a}:1" for a in range(1, 7)), *(f"1:{b}" for b in range(2, 8))])
        fixed = {"cache": cache, "epochs": 20, "device": "cpu", "out": f"{folder}/sweep"}
        swept = SweepConfig.parse(seeds=5, swept={"amr_ratio": ratios}, **fixed)
        for ways in (extractions(extract, arguments.shards), sweeps(swept)):
            first = b""
            for what, seconds, content in ways:
                first = first or content
                if content != first:
                    raise RuntimeError(f"{what}: another file than that of one process")
                table.add_row(what, f"{seconds:.1f}", "equal to the bit")
    console = Console(width=120)
    console.print(machine(torch.device("cpu")))
    console.print(table)


if __name__ == "__main__":
    main()
