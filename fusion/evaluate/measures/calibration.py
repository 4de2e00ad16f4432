"""Calibration of a head's probabilities: NLL, Brier score and expected calibration error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from torch import Tensor

from amr.fusion.evaluate.measures.base import Measure, Reliability, measures
from amr.fusion.evaluate.perturb import Name, Subject
from amr.fusion.evaluate.scores import Scores

NUM_BINS = 15  # equally wide bins of confidence (Guo et al. 2017)


def calibration_error(confidence: np.ndarray, correct: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Expected calibration error, `(run,)`: sum over bins of |mean correct - mean confidence| times the bin's weight.

    Args:
        confidence: Probability of the predicted class, `(run, clips)`.
        correct: Correctness, `(run, clips)`: 1 if the predicted class is the clip's class.
        weights: Clip weights, `(clips,)`, of any sum; 0 leaves a clip out.
    """
    num_runs = len(confidence)
    bins = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1) + NUM_BINS * np.arange(num_runs)[:, None]
    gaps = np.bincount(bins.ravel(), ((correct - confidence) * weights).ravel(), num_runs * NUM_BINS)
    return np.abs(gaps.reshape(num_runs, NUM_BINS)).sum(-1) / weights.sum()


@measures.register("calibration")
class Calibration(Measure):
    """ECE, NLL and Brier score on unchanged clips, and with one modality under the strongest noise."""

    summary = "ECE, NLL and Brier score, clean and with noise of one standard deviation in one modality"
    citation = "Guo et al. 2017; Brier 1950"
    words: ClassVar[Mapping[str, str]] = {"calibration": "calibration,"}

    def per_clip(self, subject: Subject) -> dict[Name, Tensor]:
        """Keys `calibration, condition, nll` and `calibration, condition, brier`: both scores of each clip."""
        result: dict[Name, Tensor] = {}
        for name, scores in self._conditions(subject).items():
            result |= {("calibration", name, "nll"): scores.nll, ("calibration", name, "brier"): scores.brier}
        return result

    def reliability(self, subject: Subject) -> dict[Name, Reliability]:
        """Keys `calibration, condition, ece`: confidence and correctness of each clip."""
        result: dict[Name, Reliability] = {}
        for name, scores in self._conditions(subject).items():
            confidence, correct = scores.confidence.numpy(), scores.correct.numpy()
            draws = (confidence, correct) if confidence.ndim == 3 else (confidence[..., None], correct[..., None])
            result["calibration", name, "ece"] = draws
        return result

    def _conditions(self, subject: Subject) -> dict[str, Scores]:
        return {"clean": subject.clean} | {f"{m} noise": subject.under_noise(m).most for m in subject.modalities}
