"""Accuracy while one modality drowns in noise, and what is left of it on average (MultiBench, Liang et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from amr.fusion.data.clips import predict_logits
from amr.fusion.evaluate.measures.calibration import Scores, join, score
from amr.fusion.evaluate.measures.perturb import Name, Probe, noisy

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)  # standard deviations of each dimension over the train clips


def per_clip(probe: Probe) -> tuple[dict[Name, Tensor], dict[str, Scores]]:
    """How often each clip is answered right under noise, and how it is answered at the highest level.

    Returns:
        `noise, modality, level` to `(run, clips)`, without level 0, which is the accuracy; modality to the scores.
    """
    result, loudest = {}, {}
    for m in probe.modalities:
        draws = probe.noise(m)
        for level in LEVELS[1:-1]:
            right = [probe.right(noisy(probe.clips, m, level * noise)).float() for noise in draws]
            result[level_name(m, level)] = torch.stack(right).mean(0)
        logits = (predict_logits(probe.model, noisy(probe.clips, m, LEVELS[-1] * noise)) for noise in draws)
        loudest[m] = join([score(each, probe.clips.target) for each in logits])
        result[level_name(m, LEVELS[-1])] = loudest[m].right.mean(-1)
    return result, loudest


def derived(means: Mapping[Name, np.ndarray], modalities: Sequence[str]) -> dict[Name, np.ndarray]:
    """The curve's first point, and robustness: the area under accuracy(noise) / accuracy(0), 1 if nothing is lost."""
    result = {}
    clean = means[("accuracy",)]
    for m in modalities:
        result[level_name(m, LEVELS[0])] = clean
        curve = np.stack([clean, *(means[level_name(m, level)] for level in LEVELS[1:])])
        area = np.trapezoid(curve, LEVELS, axis=0)
        result["robustness", m] = area / np.where(clean > 0, clean, np.nan)
    return result


def level_name(modality: str, level: float) -> Name:
    """The name of a point of the curve."""
    return ("noise", modality, f"{level:g}")
