"""Which device computes."""

from __future__ import annotations

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
