"""Explanation of predicted labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from amr.fusion.explain.explanation import Decisions, Explanation, Without, near
from amr.fusion.explain.words import cut, width_of

if TYPE_CHECKING:
    from typing import Self

    from amr.fusion.runs.weights import FittedRun

NO_LABEL = "no label above one half"
MAX_LINE, MAX_NAME = 100, 60  # letters of a line, and of a label in the table
FEW, MOST = 12, 24  # labels that are shown; more than a few only if they are predicted or true


@dataclass(frozen=True)
class RemovedLabels(Without):
    """Predicted labels without one modality.

    Args:
        pred: Labels, joined by ";".
        labels: Labels above one half.
        probabilities: Label to its probability.
    """

    labels: tuple[str, ...]
    probabilities: dict[str, float]

    def agrees(self, other: Self, tolerance: float) -> bool:
        """Whether labels and probabilities are the same."""
        pairs = [(p, other.probabilities[name]) for name, p in self.probabilities.items()]
        return self.labels == other.labels and near(pairs, tolerance)


@dataclass(frozen=True, kw_only=True)
class LabelsExplanation(Explanation[RemovedLabels]):
    """Explanation of one clip of which any number of labels is predicted.

    Args:
        labels: Labels above one half.
        true_labels: Labels of the clip; None if they are unknown.
    """

    task: ClassVar[str] = "multilabel"

    labels: tuple[str, ...]
    true_labels: tuple[str, ...] | None

    @classmethod
    def of(cls, decisions: Decisions, fitted: FittedRun, **fields: Any) -> Self:
        """Labels that the run does not know may be true, too."""
        whole, truth = decisions.whole, decisions.truth
        return cls(
            pred=whole.text,
            true=None if truth is None else truth.text,
            probabilities={**whole.probabilities},
            labels=whole.labels,
            true_labels=None if truth is None else truth.labels,
            removed=decisions.removed(lambda d: RemovedLabels(d.text, d.labels, {**d.probabilities})),
            **fields,
        )

    @property
    def shown(self) -> list[str]:
        """The most important labels, by probability: those predicted or true, or predicted without a modality first."""
        removed = [each for by_modality in self.removed.values() for each in by_modality.values()]
        named = {*self.labels, *(self.true_labels or ())}
        changed = {name for each in removed for name in each.labels}
        by_rank = sorted(
            self.probabilities, key=lambda name: (name not in named, name not in changed, -self.probabilities[name])
        )
        count = min(MOST, max(FEW, len((named | changed) & self.probabilities.keys())))
        return sorted(by_rank[:count], key=lambda name: -self.probabilities[name])

    @property
    def largest_hidden(self) -> float:
        """Largest probability of a label that is not shown, with all modalities or without one."""
        hidden = self.probabilities.keys() - {*self.shown}
        rows = [self.probabilities, *(each.probabilities for row in self.removed.values() for each in row.values())]
        return max((row[name] for row in rows for name in hidden), default=0.0)

    @property
    def sentence(self) -> str:
        """Labels, and what is true: their names, or their numbers if the names are long."""
        if self.true_labels is None:
            truth = counted = ""
        elif {*self.true_labels} == {*self.labels}:
            truth = counted = ", correct"
        else:
            truth = f"; true: {', '.join(self.true_labels) or 'no label'}"
            found = len({*self.true_labels} & {*self.labels})
            counted = f"; true: {_count(self.true_labels)}, {found} of them predicted" if self.true_labels else truth
        text = (", ".join(self.labels) or NO_LABEL) + truth
        return text if width_of(text) <= MAX_LINE else (_count(self.labels) if self.labels else NO_LABEL) + counted

    @property
    def attributed(self) -> str:
        """The predicted labels, whose log-odds are summed; of none, the most probable one."""
        return "the predicted labels" if self.labels else "the most probable label"

    @property
    def headline(self) -> str:
        """Labels with their probabilities, and what is true."""
        said = ", ".join(f"{name} {self.probabilities[name]:.3f}" for name in self.labels)
        truth = "" if self.true_labels is None else f"; true: {', '.join(self.true_labels) or 'no label'}"
        return f"labels: {said or 'none above one half'}{truth}"

    def without_rows(self) -> list[tuple[str, Mapping[str, object]]]:
        """Probability of each label that is shown, one row per baseline."""
        rows: list[tuple[str, Mapping[str, object]]] = []
        for name in self.shown:
            for baseline, removed in self.baselines.items():
                title = f"{cut(name, MAX_NAME)} {self.probabilities[name]:.3f}, replaced by {baseline}"
                rows.append((title, {m: each.probabilities[name] for m, each in removed.items()}))
        return rows

    def to_json(self) -> dict[str, Any]:
        """Also the task."""
        return {"task": self.task, **super().to_json()}


def _count(labels: Sequence[str]) -> str:
    """Number of labels.

    >>> _count(["dog"]), _count(["dog", "cat"])
    ('1 label', '2 labels')
    """
    return f"{len(labels)} label{'s' * (len(labels) != 1)}"
