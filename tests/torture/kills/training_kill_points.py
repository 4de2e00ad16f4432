"""The kill points of trainings of encoders, and of commands on real clips (`kill_points` has the others)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..report import Outcome, scaled
from .commands import CASES, real_cases
from .kill_points import is_training, run_cases

REAL_CLIPS = 6


def run(seed: int, scale: float, folder: Path) -> Iterator[Outcome]:
    """Kill them as the others."""
    cases = [case for case in CASES if is_training(case)] + real_cases(scaled(REAL_CLIPS, scale))
    yield from run_cases(cases, seed, scale, folder)
