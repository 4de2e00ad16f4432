"""Device and number of CPU threads that compute."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from amr.common.options import APPLE_GPU, check_device


def choose_device(name: str, *, encodes: bool = False) -> torch.device:
    """Device of a `--device` value; `auto` is the GPU of CUDA if there is one.

    Args:
        name: Name of the device.
        encodes: Whether it is to run encoders, and may be the GPU of an Apple machine, mps.

    Raises:
        ValueError: The name is unknown, or a GPU is requested that is not there.
    """
    check_device(name, encodes=encodes)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == APPLE_GPU and not torch.backends.mps.is_available():
        raise ValueError("--device must be available, got mps without the GPU of an Apple machine. Pass --device cpu.")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device must be available, got {name} without a GPU. Pass --device cpu.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        last = f"cuda:{torch.cuda.device_count() - 1}"
        raise ValueError(f"--device must be available, got {name} where the last GPU is {last}. Pass --device {last}.")
    return device


def upload(values: Tensor, device: torch.device) -> Tensor:
    """Copy to a device what is not there yet. The host does not wait for a GPU, which finishes earlier work first."""
    if device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt


def keep_freed_memory() -> None:
    """Let this process keep what a training step frees, up to 256 MiB, for the next step.

    By default, glibc returns large blocks to the kernel, which makes new pages for each step.
    """
    _limit_freed_memory(largest_block=2**25, total=2**28)


def return_freed_memory() -> None:
    """Let this process return what it frees to the kernel, except 64 MiB, and blocks of 8 MiB at once.

    By default, glibc raises both limits with the blocks that it sees. Between frames and what is made of them, it then
    keeps several times as much as is ever used at once (tests/torture/decoding/bounds.py).
    """
    _limit_freed_memory(largest_block=2**23, total=2**26)


def _limit_freed_memory(largest_block: int, total: int) -> None:
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, largest_block)
        libc.mallopt(M_TRIM_THRESHOLD, total)


ONE_THREAD_PRODUCTS = 2**26  # below this many multiplications per step, threads wait longer than they work


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one CPU thread in the calling thread; restore the number of threads afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads_for(products: int) -> AbstractContextManager[None]:
    """Context with one CPU thread if steps are small, else with all threads.

    Args:
        products: Number of multiplications in one step.
    """
    return one_thread() if products < ONE_THREAD_PRODUCTS else nullcontext()


SECONDS_TO_END = 10.0  # a thread takes about a millisecond


@contextmanager
def thread_pool(num_threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads to compute in, each with one CPU thread if there are several; the kernel has ended them after the block.

    Python's own end of a pool is about a millisecond too early: an ending thread still holds locks of MKL. A process
    that is forked in this time has them for ever, and hangs in its first matrix product.
    """
    started: set[int] = set()

    def begin() -> None:
        started.add(threading.get_native_id())
        if num_threads > 1:
            torch.set_num_threads(1)  # holds for the calling thread only

    try:
        pool = ThreadPoolExecutor(num_threads, initializer=begin)
        with one_thread() if num_threads > 1 else nullcontext(), pool:
            yield pool
    finally:
        until = time.monotonic() + SECONDS_TO_END
        while any(os.path.exists(f"/proc/self/task/{each}") for each in started) and time.monotonic() < until:
            time.sleep(0.0005)
