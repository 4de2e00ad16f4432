"""Explanation of a predicted class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from amr.fusion.explain.explanation import Decisions, Explanation, Without, near

if TYPE_CHECKING:
    from typing import Self

    from amr.fusion.runs.weights import FittedRun


@dataclass(frozen=True)
class Removed(Without):
    """Predicted class without one modality.

    Args:
        pred: Predicted class without the modality.
        pred_probability: Probability of that class.
        probability: Probability of the class predicted with all modalities.
        true_probability: Probability of the true class; None if it is unknown.
    """

    pred_probability: float
    probability: float
    true_probability: float | None

    def agrees(self, other: Self, tolerance: float) -> bool:
        """Whether class and probabilities are the same."""
        pairs = [(self.pred_probability, other.pred_probability), (self.probability, other.probability)]
        if self.true_probability is not None and other.true_probability is not None:
            pairs.append((self.true_probability, other.true_probability))
        return self.pred == other.pred and near(pairs, tolerance)


@dataclass(frozen=True)
class ClassExplanation(Explanation[Removed]):
    """Explanation of one clip of which a class is predicted."""

    task: ClassVar[str] = "multiclass"

    @classmethod
    def of(cls, decisions: Decisions, fitted: FittedRun, **fields: Any) -> Self:
        """Of a class that the run does not know, nothing is said."""
        whole, truth = decisions.whole, decisions.truth
        true = truth.text if truth is not None and truth.text in whole.probabilities else None
        return cls(
            pred=whole.text,
            true=true,
            probabilities={**whole.probabilities},
            removed=decisions.removed(
                lambda d: Removed(
                    d.text,
                    d.probabilities[d.text],
                    d.probabilities[whole.text],
                    None if true is None else d.probabilities[true],
                )
            ),
            **fields,
        )

    @property
    def everything(self) -> Removed:
        """Prediction with all modalities."""
        p = self.probabilities
        return Removed(self.pred, p[self.pred], p[self.pred], None if self.true is None else p[self.true])

    @property
    def is_wrong(self) -> bool:
        """Whether another class is true."""
        return self.true is not None and self.true != self.pred

    @property
    def sentence(self) -> str:
        """Class, its probability, and the label."""
        truth = "" if self.true is None else ", correct"
        if self.true is not None and self.is_wrong:
            truth = f"; the label is {class_text(self.true)}"
        return f"{class_text(self.pred)} with probability {self.probabilities[self.pred]:.2f}{truth}"

    @property
    def attributed(self) -> str:
        """The decision."""
        return "the decision"

    @property
    def headline(self) -> str:
        """Class, its probability, and the label."""
        truth = "" if self.true is None else f", label {self.true}"
        return f"{class_text(self.pred)}, probability {self.probabilities[self.pred]:.3f}{truth}"

    def without_rows(self) -> list[tuple[str, Mapping[str, object]]]:
        """Probability of the predicted class, one row per baseline."""
        return [
            (f"probability if replaced by {baseline}", {m: each.probability for m, each in removed.items()})
            for baseline, removed in self.baselines.items()
        ]


def class_text(name: str) -> str:
    """Name of a class that cannot be taken for a number.

    >>> class_text("1"), class_text("class-05")
    ('class 1', 'class-05')
    """
    return name if name.lower().startswith("class") else f"class {name}"
