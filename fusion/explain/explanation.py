"""Explanation of one decision: every number in the picture of `amr explain`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

SAME = 1e-3  # difference of probabilities that no picture shows


@dataclass(frozen=True)
class Removed:
    """Prediction of the head without one modality.

    Args:
        pred: Predicted class without the modality.
        pred_probability: Probability of that class.
        probability: Probability of the class predicted with all modalities.
        true_probability: Probability of the true class; None if it is unknown.
    """

    pred: str
    pred_probability: float
    probability: float
    true_probability: float | None


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
class Explanation:
    """Explanation of one clip; every number is the mean over folds.

    Args:
        clip: Requested path or id.
        run: Folder of the run.
        head: Head of the run.
        method: Method of the run.
        amr_ratio: Ratio that AMR was given; None: without AMR.
        pred: Predicted class.
        true: Label of the clip; None if it is unknown.
        probabilities: Class to probability.
        share: Attribution (`VIEWS` in fold.py) to modality to share; None if the clip has fewer than two modalities.
        removed: Baseline (zero, mean) to modality to the prediction without it; without mean if the cache is gone.
        steps: Modality to the weights of its steps, if its embedding has steps.
        notes: Remarks for the reader.
        picture: File of the picture.
        text: Text of the clip, if the run has a modality of text and it can be read.
    """

    clip: str
    run: str
    head: str
    method: str
    amr_ratio: str | None
    pred: str
    true: str | None
    probabilities: dict[str, float]
    share: dict[str, dict[str, float | None]]
    removed: dict[str, dict[str, Removed]]
    steps: dict[str, Steps]
    notes: tuple[str, ...]
    picture: str
    text: str | None = None

    @property
    def baselines(self) -> dict[str, dict[str, Removed]]:
        """`removed` with names for readers; baselines that agree, as with standardized embeddings, are one."""
        names: dict[str, list[str]] = {}
        for name, by_modality in self.removed.items():
            equal = next((first for first in names if _agree(self.removed[first], by_modality)), name)
            names.setdefault(equal, []).append(name)
        return {" or ".join(equals): self.removed[first] for first, equals in names.items()}

    @property
    def modalities(self) -> list[str]:
        """Modalities in the run's order."""
        return list(next(iter(self.share.values())))

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


def class_text(name: str) -> str:
    """Name of a class that cannot be taken for a number.

    >>> class_text("1"), class_text("class-05")
    ('class 1', 'class-05')
    """
    return name if name.lower().startswith("class") else f"class {name}"


def _agree(one: Mapping[str, Removed], other: Mapping[str, Removed]) -> bool:
    """Whether two baselines give the same predictions, but for rounding errors."""
    for m, a in one.items():
        b = other[m]
        pairs = [(a.pred_probability, b.pred_probability), (a.probability, b.probability)]
        if a.true_probability is not None and b.true_probability is not None:
            pairs.append((a.true_probability, b.true_probability))
        if a.pred != b.pred or any(abs(p - q) > SAME for p, q in pairs):
            return False
    return True
