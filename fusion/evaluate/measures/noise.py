"""Accuracy under noise in one modality, and robustness (MultiBench, Liang et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from torch import Tensor

from amr.fusion.choices import TASKS
from amr.fusion.evaluate.measures.base import Measure, measures
from amr.fusion.evaluate.perturb import LEVELS, Name, Subject


def per_clip(subject: Subject) -> dict[Name, Tensor]:
    """Keys `noise, modality, level`: how often each clip is correct, `(run, clips)`; level 0 is in `derived`."""
    result: dict[Name, Tensor] = {}
    for m in subject.modalities:
        found = subject.under_noise(m)
        result |= {level_name(m, level): correct for level, correct in found.correct.items()}
        result[level_name(m, LEVELS[-1])] = found.most.correct.mean(-1)
    return result


def derived(means: Mapping[Name, np.ndarray], modalities: Sequence[str]) -> dict[Name, np.ndarray]:
    """First point of the curve, and robustness: area under accuracy(noise) / accuracy(0), 1 if noise costs nothing."""
    result = {}
    clean = means[("accuracy",)]
    for m in modalities:
        if level_name(m, LEVELS[-1]) not in means:  # its input is not continuous
            continue
        result[level_name(m, LEVELS[0])] = clean
        curve = np.stack([clean, *(means[level_name(m, level)] for level in LEVELS[1:])])
        # an error is a negative value, and its ratio is turned over: 1 if noise costs nothing, less if it does
        of_errors = np.trapezoid(clean / np.where(curve < 0, curve, np.nan), LEVELS, axis=0)
        area = np.trapezoid(curve, LEVELS, axis=0) / np.where(clean > 0, clean, np.nan)
        result["robustness", m] = np.where(clean < 0, of_errors, area)
    return result


def level_name(modality: str, level: float) -> Name:
    """Name of one point of the curve."""
    return ("noise", modality, f"{level:g}")


@measures.register("noise")
class Noise(Measure):
    """Accuracy at noise of 0 to 1 standard deviations per modality, and the area under that curve."""

    summary = (
        "accuracy at noise of 0 to 1 standard deviations in one modality; "
        "robustness is the area below, over the clean accuracy"
    )
    citation = "MultiBench, Liang et al. 2021"
    tasks = TASKS
    words: ClassVar[Mapping[str, str]] = {
        "robustness": "robustness (ratio to the clean accuracy) to noise in",
        "noise": "accuracy under noise in",
    }

    def per_clip(self, subject: Subject) -> dict[Name, Tensor]:
        """Keys `noise, modality, level`: how often each clip is classified correctly under noise."""
        return per_clip(subject)

    def derived(self, means: Mapping[Name, np.ndarray], modalities: Sequence[str]) -> dict[Name, np.ndarray]:
        """Keys `robustness, modality`: area under accuracy(noise) / accuracy(0)."""
        return derived(means, modalities)
