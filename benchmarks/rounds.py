"""Shared parts of the benchmarks: cases timed in turn, round by round, and the machine. It prints nothing itself."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch


class Timing(NamedTuple):
    """Seconds of wall clock, and of CPU time of all threads of the process and of the programs that it ran."""

    wall: float
    cpu: float


def timed(work: Callable[[], object], device: torch.device | None = None) -> Timing:
    """Time a function, with the GPU's queue empty before and after."""
    on_gpu = device is not None and device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize(device)
    began, began_cpu = time.perf_counter(), _cpu_seconds()
    work()
    if on_gpu:
        torch.cuda.synchronize(device)
    return Timing(time.perf_counter() - began, _cpu_seconds() - began_cpu)


def _cpu_seconds() -> float:
    ended = os.times()
    return time.process_time() + ended.children_user + ended.children_system


def medians(
    cases: Mapping[str, Callable[[], object]], rounds: int, device: torch.device | None = None
) -> dict[str, Timing]:
    """Median times of each case. The cases take turns, so that a machine that slows down slows all of them.

    Args:
        cases: Name to function; each runs once before any is timed.
        rounds: Number of timed calls of each.
        device: Device that it runs on.
    """
    times: dict[str, list[Timing]] = {name: [] for name in cases}
    for _ in range(1 + rounds):
        for name, work in cases.items():
            times[name].append(timed(work, device))
    return {name: Timing(*map(statistics.median, zip(*values[1:], strict=True))) for name, values in times.items()}


def machine(device: torch.device | None = None) -> str:
    """One line with processor, cores, threads, device, version and load."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    on_gpu = device is not None and device.type == "cuda"
    gpu = torch.cuda.get_device_name(device) if on_gpu else "no GPU used"
    load = f"load {os.getloadavg()[0]:.1f}"
    return (
        f"{names[0] if names else 'CPU'}, {cores} cores, {torch.get_num_threads()} threads, {gpu}, "
        f"PyTorch {torch.__version__}, {load}"
    )
