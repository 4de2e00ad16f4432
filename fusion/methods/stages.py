"""Stages of a training whose length is a share of its epochs."""

from __future__ import annotations

from math import ceil

ROUNDING = 1e-9  # 0.07 * 100 is 7.000000000000001


def stage_epochs(share: float, epochs: int) -> int:
    """Number of epochs of a stage: a share of all epochs, rounded up.

    >>> stage_epochs(1 / 12, 60), stage_epochs(0.07, 100), stage_epochs(0.1, 3), stage_epochs(0, 3)
    (5, 7, 1, 0)
    """
    return ceil(share * epochs - ROUNDING)


def warm_up_epochs(share: float, epochs: int) -> int:
    """Number of epochs of a warm-up. The last epoch is never one of them, unless all are.

    >>> warm_up_epochs(0.1, 100), warm_up_epochs(0.1, 2), warm_up_epochs(0.1, 1), warm_up_epochs(1, 1)
    (10, 1, 0, 1)
    """
    return epochs if share == 1 else min(stage_epochs(share, epochs), epochs - 1)
