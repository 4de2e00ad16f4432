"""Connect to a Ray cluster, or start one on this machine, and count the workers that it has room for."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from amr.common.options import available_cores
from amr.common.processes import first_line

PORT = 6379  # of Ray, where an address has none
ROUNDING = 1e-6  # ten workers with .1 of a GPU fit on one


@dataclass(frozen=True)
class Room:
    """Workers that a cluster has room for.

    Attributes:
        workers: Number of workers side by side.
        cpus: Number of CPUs of each.
        gpus: Number of GPUs of each.
    """

    workers: int
    cpus: float
    gpus: float


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Yield the module ray, connected in the block. A cluster that was started here ends with it.

    A program that has called `ray.init` already keeps its connection.

    Args:
        address: "auto" for the cluster that this machine is a node of, HOST or HOST:PORT if there are several; None to
            start Ray here.

    Raises:
        ValueError: No cluster has this address.
        RuntimeError: Ray did not start here.
    """
    import ray

    if ray.is_initialized():
        yield ray
        return
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        with _same_signals():
            if address is None:
                os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
                ray.init("local", num_cpus=available_cores(), include_dashboard=False, **quiet)
            else:
                ray.init(_with_port(address), **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        if address is None:
            raise RuntimeError(
                f"--engine ray must start Ray on this machine, got {first_line(error)}. "
                "Run the same command again, or pass the --address of a cluster that runs."
            ) from error
        raise ValueError(
            f"--address must be that of a Ray cluster of this machine, got {address!r} ({first_line(error)}). "
            "Join it with ray start --address HOST:PORT, start one with ray start --head, or leave out --address."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def _same_signals() -> Iterator[None]:
    """Keep this process's way to end on SIGTERM, which ray.init replaces."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def room_for(ray: Any, gpus: float, cpus: int | None) -> Room:
    """Workers that the nodes of a cluster have room for: one per GPU share, or per number of CPUs, or per node.

    Args:
        ray: Module ray, connected.
        gpus: Number of GPUs of each worker.
        cpus: Number of CPUs of each worker; None for its part of a node.

    Raises:
        ValueError: There is room for none.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    by_gpu = [int(node.get("GPU", 0) / gpus + ROUNDING) if gpus else None for node in nodes]
    found = zip([float(node.get("CPU", 0)) for node in nodes], by_gpu, strict=True)
    able = [(cpu, number) for cpu, number in found if cpu >= 1 and number != 0]
    each = max(1.0, cpus or min((cpu // (number or 1) for cpu, number in able), default=1.0))
    workers = sum(int(cpu // each if number is None else min(cpu // each, number)) for cpu, number in able)
    if workers < 1:
        wanted, smaller = [_counted(each, "CPU")], []
        if gpus:
            wanted.insert(0, _counted(gpus, "GPU"))
            smaller.append("a smaller --num-gpus-per-worker")
        if cpus is not None and cpus > 1:
            smaller.append("fewer --workers")
        raise ValueError(
            f"the cluster must have room for a worker, got no node with {' and '.join(wanted)}. "
            + (f"Pass {' or '.join(smaller)}." if smaller else "Add a node that has it.")
        )
    return Room(workers, each, gpus)


def _counted(number: float, noun: str) -> str:
    return f"{number:g} {noun}{'' if number == 1 else 's'}"


def _with_port(address: str) -> str:
    """Address as Ray takes it.

    >>> _with_port("auto"), _with_port("10.0.0.1"), _with_port("ray://head:10001")
    ('auto', '10.0.0.1:6379', 'ray://head:10001')
    """
    return address if address in ("auto", "local") or ":" in address else f"{address}:{PORT}"
