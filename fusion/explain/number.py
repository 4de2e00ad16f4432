"""Explanation of a predicted number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from amr.fusion.explain.explanation import SAME, Decisions, Explanation, Without
from amr.fusion.explain.words import cut

if TYPE_CHECKING:
    from typing import Self

    from amr.fusion.runs.weights import FittedRun

MAX_COLUMN = 50  # letters of the column's name in a line
MOST_DIGITS = 7  # before and after the point of a number without an exponent


@dataclass(frozen=True)
class RemovedNumber(Without):
    """Predicted number without one modality.

    Args:
        pred: The number as text.
        value: The number.
    """

    value: float

    def agrees(self, other: Self, tolerance: float) -> bool:
        """Whether the numbers are the same."""
        return abs(self.value - other.value) <= tolerance


@dataclass(frozen=True, kw_only=True)
class NumberExplanation(Explanation[RemovedNumber]):
    """Explanation of one clip of which a number is predicted. Numbers are in the units of the cache.

    Args:
        column: Column of the cache that has the number.
        value: Predicted number.
        true_value: Number of the clip; None if it is unknown.
        train_mean: Mean of the number over the train clips.
        train_std: Its deviation.
    """

    task: ClassVar[str] = "regression"

    column: str
    value: float
    true_value: float | None
    train_mean: float
    train_std: float

    @classmethod
    def of(cls, decisions: Decisions, fitted: FittedRun, **fields: Any) -> Self:
        """Each fold has a scale of its own."""
        scales = [scale for scale in fitted.scales if scale is not None]
        truth = decisions.truth
        return cls(
            pred=decisions.whole.text,
            true=None if truth is None else truth.text,
            probabilities={},
            column=fitted.record.classes[0],
            value=decisions.whole.value,
            true_value=None if truth is None else truth.value,
            train_mean=sum(scale.mean for scale in scales) / len(scales),
            train_std=sum(scale.std for scale in scales) / len(scales),
            removed=decisions.removed(lambda d: RemovedNumber(d.text, d.value)),
            **fields,
        )

    @property
    def tolerance(self) -> float:
        """A fraction of the train deviation."""
        return SAME * self.train_std

    def number(self, value: float) -> str:
        """A number with the digits that matter beside the train deviation: to a hundredth of it."""
        return number_text(value, self.train_std)

    @property
    def sentence(self) -> str:
        """Number, and what is true."""
        truth = "" if self.true_value is None else f"; the true number is {self.number(self.true_value)}"
        return f"{cut(self.column, MAX_COLUMN)} {self.number(self.value)}{truth}"

    @property
    def attributed(self) -> str:
        """The number."""
        return "the number"

    @property
    def headline(self) -> str:
        """Number, and what is true."""
        return f"{self.column} {self.pred}" + ("" if self.true is None else f", true {self.true}")

    def without_rows(self) -> list[tuple[str, Mapping[str, object]]]:
        """The number, one row per baseline."""
        return [
            (f"{self.column} if replaced by {baseline}", {m: self.number(each.value) for m, each in removed.items()})
            for baseline, removed in self.baselines.items()
        ]

    def to_json(self) -> dict[str, Any]:
        """Also the task."""
        return {"task": self.task, **super().to_json()}


def number_text(value: float, unit: float) -> str:
    """A number to a hundredth of a unit.

    >>> number_text(1234.5678, 0.5), number_text(1234.5678, 250), number_text(-0.001, 1), number_text(0.00001234, 1e-7)
    ('1234.568', '1235', '0.00', '1.2340e-05')
    """
    place = math.floor(math.log10(unit)) - 2  # of the last digit
    value = round(value, max(0, -place)) + 0.0  # no -0
    if -place < MOST_DIGITS and abs(value) < 10**MOST_DIGITS:
        return f"{value:.{max(0, -place)}f}"
    digits = math.floor(math.log10(abs(value))) - place if value else 0
    return f"{value:.{max(0, digits)}e}"
