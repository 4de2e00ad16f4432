"""What is known of one decision: every number of the picture that `amr explain` draws."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Removed:
    """What the head answers without one modality.

    Args:
        pred: the class it would predict.
        pred_probability: of that class.
        probability: of the class predicted with everything.
        true_probability: of the true class; None where it is not known.
    """

    pred: str
    pred_probability: float
    probability: float
    true_probability: float | None


@dataclass(frozen=True)
class Steps:
    """When a modality mattered.

    Args:
        start_seconds: (steps,) of each step, in seconds of the clip; in fractions of it where its length is not known.
        end_seconds: (steps,).
        weight: (steps,) of each step's magnitude of gradient x input; they sum to 1.
        in_seconds: whether times are seconds.
    """

    start_seconds: list[float]
    end_seconds: list[float]
    weight: list[float]
    in_seconds: bool


@dataclass(frozen=True)
class Explanation:
    """Every number of the picture.

    Args:
        clip: the path or the id that was asked for.
        run: folder of the run.
        head: its head.
        method: its method.
        amr_ratio: what it was pulled to; None: nothing.
        pred: the predicted class.
        true: the clip's label; None where it is not known.
        probabilities: of every class; the mean over folds, as everything else.
        shares: attribution (`explain_fold.VIEWS`) to modality to share; None where the clip has fewer than two of
            the modalities.
        removed: baseline (zero, mean) to modality to what becomes of the answer; no mean where the cache is gone.
        steps: modality to when it mattered, where its embedding has steps.
        notes: what people should know.
        picture: the file that shows it.
    """

    clip: str
    run: str
    head: str
    method: str
    amr_ratio: str | None
    pred: str
    true: str | None
    probabilities: dict[str, float]
    shares: dict[str, dict[str, float | None]]
    removed: dict[str, dict[str, Removed]]
    steps: dict[str, Steps]
    notes: tuple[str, ...]
    picture: str

    @property
    def modalities(self) -> list[str]:
        """In the run's order."""
        return list(next(iter(self.shares.values())))

    def to_json(self) -> dict[str, Any]:
        """The document of `amr explain --json`."""
        return asdict(self)
