"""Connect to a Ray cluster, or start one on this machine, and count the workers that it has room for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from amr.common.options import available_cores

PORT = 6379  # of Ray, where an address has none


@dataclass(frozen=True)
class ClusterConfig:
    """A cluster, and what each worker takes of it.

    Attributes:
        address: "auto" for the cluster that this machine belongs to, HOST or HOST:PORT; None to start Ray here.
        gpus: Number of GPUs per worker.
        cpus: Number of CPUs per worker; None for its part of a node.
    """

    address: str | None
    gpus: float
    cpus: int | None


@dataclass(frozen=True)
class Room:
    """Workers that a cluster has room for.

    Attributes:
        workers: Number of workers side by side.
        cpus: Number of CPUs of each.
    """

    workers: int
    cpus: float


@contextmanager
def connected(config: ClusterConfig) -> Iterator[Any]:
    """Yield the module ray, connected in the block. A cluster that was started here ends with it.

    A program that has called `ray.init` already keeps its connection.

    Raises:
        ValueError: No cluster has this address.
    """
    import ray

    if ray.is_initialized():
        yield ray
        return
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if config.address is None:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            ray.init("local", num_cpus=available_cores(), include_dashboard=False, **quiet)
        else:
            ray.init(_with_port(config.address), **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"--address must be that of a Ray cluster, got {config.address!r} ({error}). "
            "Start one with ray start --head, or leave out --address."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def room_for(ray: Any, config: ClusterConfig) -> Room:
    """Workers that the nodes of a cluster have room for: one per GPU share, or per number of CPUs, or per node.

    Raises:
        ValueError: There is room for none.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus = [float(node.get("CPU", 0)) for node in nodes]
    by_gpu = [int(node.get("GPU", 0) // config.gpus) if config.gpus else None for node in nodes]
    able = [(cpu, number) for cpu, number in zip(cpus, by_gpu, strict=True) if cpu >= 1 and number != 0]
    each = float(config.cpus or min((cpu // (number or 1) for cpu, number in able), default=0))
    workers = sum(min(int(cpu // max(each, 1)), cpu if number is None else number) for cpu, number in able)
    if workers < 1:
        wanted = f"{config.gpus:g} GPUs and {config.cpus or 1} CPUs" if config.gpus else f"{config.cpus or 1} CPUs"
        raise ValueError(
            f"the cluster must have room for a worker, got no node with {wanted}. "
            "Pass a smaller --num-gpus-per-worker or fewer --workers."
        )
    return Room(int(workers), max(each, 1.0))


def _with_port(address: str) -> str:
    """Address as Ray takes it.

    >>> _with_port("auto"), _with_port("10.0.0.1"), _with_port("ray://head:10001")
    ('auto', '10.0.0.1:6379', 'ray://head:10001')
    """
    return address if address in ("auto", "local") or ":" in address else f"{address}:{PORT}"
