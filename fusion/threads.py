"""How many CPU threads a step is worth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

ONE_THREAD_PRODUCTS = 2**26  # below this many products a step, threads wait for each other longer than they work


@contextmanager
def threads_for(products: int) -> Iterator[None]:
    """One CPU thread while steps are small; the number of threads is put back afterwards.

    Args:
        products: multiplications in one step.
    """
    before = torch.get_num_threads()
    if products < ONE_THREAD_PRODUCTS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
