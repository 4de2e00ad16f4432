"""Measures in the words and the direction of a task's score."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from amr.fusion.choices import Score
from amr.fusion.evaluate.perturb import Name

LEVELS_OF_SCORE = ("accuracy", "missing", "nothing", "alone", "noise")  # first words of measures that are scores


def in_units(values: Mapping[Name, np.ndarray], score: Score) -> dict[Name, np.ndarray]:
    """Measures by the name of the score: an error is a negative value until here; differences stay as they are.

    Args:
        values: Name to values, `(..., run)`; of intervals, `(2, run)`.
        score: Score of the task; what is called accuracy in `values` is its value.
    """
    result = {}
    for name, value in values.items():
        is_error = score.least_is_best and name[0] in LEVELS_OF_SCORE
        own = (score.name,) if name == ("accuracy",) else name
        result[own] = -value if is_error else value
    return result
