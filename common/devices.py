"""Which device computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


def choose_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one.

    Raises:
        ValueError: cuda was asked for where there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device must be one that is there, got cuda. Pass --device cpu.")
    return torch.device(name)


ONE_THREAD_PRODUCTS = 2**26  # below this many products a step, threads wait for each other longer than they work


@contextmanager
def one_thread() -> Iterator[None]:
    """One CPU thread for what this thread computes; the number of threads is put back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads_for(products: int) -> AbstractContextManager[None]:
    """One CPU thread while steps are small, else as many as there are.

    Args:
        products: multiplications in one step.
    """
    return one_thread() if products < ONE_THREAD_PRODUCTS else nullcontext()
