"""A decision in words and numbers for people. Nothing here imports torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Decision:
    """What was decided about a clip, or is true of it.

    Args:
        text: Class, labels joined by ";" (empty without any), or number.
        probability: Probability of the class; None for labels and numbers.
        probabilities: Class or label to its probability; empty for a number, and for what is true.
        labels: Labels; empty for classes and numbers.
        value: Number; NaN for classes and labels.
    """

    text: str
    probability: float | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    value: float = math.nan

    @classmethod
    def of_labels(cls, labels: tuple[str, ...], probabilities: Mapping[str, float]) -> Decision:
        """Decision for some labels.

        >>> Decision.of_labels(("cat", "dog"), {}).text
        'cat;dog'
        """
        return cls(";".join(labels), probabilities=probabilities, labels=labels)

    @classmethod
    def of_number(cls, value: float) -> Decision:
        """Decision for a number.

        >>> Decision.of_number(1.23456789).text
        '1.23457'
        """
        return cls(f"{value:.6g}", value=value)
