"""Explanation of one decision: every number in the picture of `amr explain`. Each task has a class in its own file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

if TYPE_CHECKING:
    from typing import Self

    from amr.fusion.runs.weights import FittedRun
    from amr.fusion.tasks.decision import Decision

SAME = 1e-3  # difference of probabilities that no picture shows


@dataclass(frozen=True)
class Without:
    """Prediction of the head without one modality; see the classes of the tasks.

    Args:
        pred: Prediction, as `amr predict` writes it.
    """

    pred: str

    def agrees(self, other: Self, tolerance: float) -> bool:
        """Whether the other prediction is the same, but for rounding errors.

        Args:
            other: Prediction by another baseline.
            tolerance: Difference of numbers that no picture shows.
        """
        raise NotImplementedError


W = TypeVar("W", bound=Without)


@dataclass(frozen=True)
class Steps:
    """Weights of a modality's time steps.

    Args:
        start_seconds: Start of each step, `(steps,)`, in seconds; in fractions of the clip if its length is unknown.
        end_seconds: End of each step, `(steps,)`.
        weight: Magnitude of gradient x input in each step, `(steps,)`; sums to 1.
        in_seconds: Whether times are in seconds.
    """

    start_seconds: list[float]
    end_seconds: list[float]
    weight: list[float]
    in_seconds: bool


@dataclass(frozen=True)
class Decisions:
    """Decisions of a run about one clip, by the mean over folds.

    Args:
        whole: Decision with all modalities.
        without: Baseline (zero, mean) to modality to the decision without it.
        truth: What is true of the clip; None if it is unknown.
    """

    whole: Decision
    without: Mapping[str, Mapping[str, Decision]]
    truth: Decision | None

    def removed(self, make: Callable[[Decision], W]) -> dict[str, dict[str, W]]:
        """Predictions without each modality, made of the decisions: baseline to modality to prediction."""
        return {baseline: {m: make(d) for m, d in of_each.items()} for baseline, of_each in self.without.items()}


@dataclass(frozen=True)
class Explanation(ABC, Generic[W]):
    """Explanation of one clip; every number is the mean over folds.

    Args:
        clip: Requested path or id.
        run: Folder of the run.
        head: Head of the run.
        method: Method of the run.
        amr_ratio: Ratio that AMR was given; None: without AMR.
        pred: Prediction, as `amr predict` writes it: class, labels joined by ";", or number.
        true: What is true of the clip, written in the same way; None if it is unknown.
        probabilities: Class or label to probability; empty for a number.
        share: Attribution (`VIEWS` in fold.py) to modality to share; None if the clip has fewer than two modalities.
        removed: Baseline (zero, mean) to modality to the prediction without it; without mean if the cache is gone.
        steps: Modality to the weights of its steps, if its embedding has steps.
        notes: Remarks for the reader.
        picture: File of the picture.
        text: Text of the clip, if the run has a modality of text and it can be read.

    Attributes:
        task: Task of the run.
    """

    task: ClassVar[str]

    clip: str
    run: str
    head: str
    method: str
    amr_ratio: str | None
    pred: str
    true: str | None
    probabilities: dict[str, float]
    share: dict[str, dict[str, float | None]]
    removed: Mapping[str, Mapping[str, W]]
    steps: dict[str, Steps]
    notes: tuple[str, ...]
    picture: str
    text: str | None = None

    @classmethod
    @abstractmethod
    def of(cls, decisions: Decisions, fitted: FittedRun, **fields: Any) -> Self:
        """Make an explanation.

        Args:
            decisions: Decisions of the run.
            fitted: The run.
            **fields: Fields that do not depend on the task.
        """

    @property
    @abstractmethod
    def sentence(self) -> str:
        """What was predicted and what is true, in one line of the picture."""

    @property
    @abstractmethod
    def attributed(self) -> str:
        """What the shares add up to, in words."""

    @abstractmethod
    def without_rows(self) -> list[tuple[str, Mapping[str, object]]]:
        """Rows of the table about predictions without a modality: name, and modality to a number or its text."""

    @property
    @abstractmethod
    def headline(self) -> str:
        """What was predicted and what is true, above the table."""

    @property
    def tolerance(self) -> float:
        """Difference of two predicted numbers that no picture shows."""
        return SAME

    @property
    def baselines(self) -> Mapping[str, Mapping[str, W]]:
        """`removed` with names for readers; baselines that agree, as with standardized embeddings, are one."""
        names: dict[str, list[str]] = {}
        for name, by_modality in self.removed.items():
            equal = next((first for first in names if self._agree(self.removed[first], by_modality)), name)
            names.setdefault(equal, []).append(name)
        return {" or ".join(equals): self.removed[first] for first, equals in names.items()}

    def _agree(self, one: Mapping[str, W], other: Mapping[str, W]) -> bool:
        return all(prediction.agrees(other[m], self.tolerance) for m, prediction in one.items())

    @property
    def modalities(self) -> list[str]:
        """Modalities in the run's order."""
        return list(next(iter(self.share.values())))

    def table(self) -> tuple[str, list[str], list[list[object]]]:
        """Title, columns and rows for the console: shares by attribution, then predictions without each modality."""
        rows: list[list[object]] = [[f"share by {NAMES[name]}", *share.values()] for name, share in self.share.items()]
        rows += [[name, *(numbers.get(m) for m in self.modalities)] for name, numbers in self.without_rows()]
        return self.headline, ["", *self.modalities], rows

    def to_json(self) -> dict[str, Any]:
        """Output of `amr explain --json`."""
        return asdict(self)


# Attributions of an explanation, for readers.
NAMES = {
    "grad_x_input": "gradient x input",
    "grad_x_input_logit": "gradient x input, logit",
    "integrated_gradients": "integrated gradients",
    "shapley": "Shapley",
}


def near(pairs: Sequence[tuple[float, float]], tolerance: float) -> bool:
    """Whether the two numbers of each pair are not further apart than the tolerance."""
    return all(abs(p - q) <= tolerance for p, q in pairs)
