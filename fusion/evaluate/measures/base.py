"""Base of measures: values per clip, and values derived from their means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from torch import Tensor

from amr.common.registry import Registry
from amr.fusion.evaluate.perturb import Name, Subject

Reliability = tuple[np.ndarray, np.ndarray]


class Measure:
    """Base of all measures. One file per measure, registered by name.

    Attributes:
        summary: One line for `amr measures` and docs/evaluation.md.
        citation: Paper, section or equation.
        least_modalities: Fewest modalities that a run must have.
        tasks: Tasks that it applies to.
        words: First part of a flat name (`conflict`), or a whole one (`conflict.balance`), to words for pages.
    """

    summary: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    least_modalities: ClassVar[int] = 1
    tasks: ClassVar[tuple[str, ...]] = ("multiclass",)
    words: ClassVar[Mapping[str, str]] = {}

    def per_clip(self, subject: Subject) -> dict[Name, Tensor]:
        """Name to `(run, clips)`, whose mean over clips is the measure; NaN if a clip has no value."""
        return {}

    def derived(self, means: Mapping[Name, np.ndarray], modalities: Sequence[str]) -> dict[Name, np.ndarray]:
        """Name to values derived from the means of `per_clip`, all of one shape."""
        return {}

    def reliability(self, subject: Subject) -> dict[Name, Reliability]:
        """Name of a calibration error to confidence and correctness, each `(run, clips, draws)`."""
        return {}


measures: Registry[type[Measure]] = Registry("measure")


def measures_for(num_modalities: int, task: str = "multiclass") -> list[Measure]:
    """One instance of every measure that applies to runs with that number of modalities and that task."""
    return [
        measure()
        for _, measure in measures.items()
        if num_modalities >= measure.least_modalities and task in measure.tasks
    ]
