"""Device and number of CPU threads that compute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from amr.common.options import DEVICES
from amr.common.registry import unknown


def choose_device(name: str) -> torch.device:
    """Device of a `--device` value; `auto` is the GPU if there is one.

    Raises:
        ValueError: The name is unknown, or `cuda` is requested without a GPU.
    """
    if name not in DEVICES:
        raise unknown("--device", name, DEVICES)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device must be available, got cuda without a GPU. Pass --device cpu.")
    return torch.device(name)


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
