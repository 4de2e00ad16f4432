"""Modality scaling: each modality's part of a plain head's logits, multiplied after training.

    logits = b + sum_m s_m W_m h(z^m),    s_m = 1 for the modality that a ratio favors most

A reference that needs no training and no regularizer: what moves use has to beat it. It exists for heads whose logits
are such a sum (concat without a hidden layer, sum, cosine).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amr.fusion.attribution.ratio import named_ratio, parse_ratio, ratios
from amr.fusion.data.clips import Clips
from amr.fusion.data.folds import Fold
from amr.fusion.evaluate.groups import RunGroup, map_folds
from amr.fusion.model import FusionModel, predict_logits
from amr.fusion.runs.measure import perceptual_scores
from amr.fusion.runs.read import use_shares
from amr.fusion.tasks import Task
from amr.fusion.tasks.multiclass import MULTICLASS


def factors_of(modalities: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Ratio with names to the factor of each modality; the even ratio is the plain head, and left out.

    >>> factors_of(["audio", "video"])["audio=1:video=4"]
    (0.25, 1.0)
    """
    named = [named_ratio(ratio, modalities) for ratio in ratios(len(modalities))]
    shares = {ratio: parse_ratio(ratio, modalities) for ratio in named}
    return {ratio: tuple(s / max(each) for s in each) for ratio, each in shares.items() if len({*each}) > 1}


def is_scalable(group: RunGroup) -> bool:
    """Whether the logits of the group's heads are a sum over modalities."""
    return group.model(0).head.scale_modalities([1.0] * len(group.runs[0].modalities))


def scaled_model(group: RunGroup, fold: int, factors: Sequence[float]) -> FusionModel:
    """Models of a fold with scaled modalities."""
    model = group.model(fold)
    model.head.scale_modalities(factors)
    return model


def unit_of(fold: Fold) -> float:
    """Deviation of a number that is predicted; 1 for classes and labels."""
    return 1.0 if fold.target_scale is None else fold.target_scale.std


def gain_and_use(model: FusionModel, clips: Clips, task: Task = MULTICLASS, unit: float = 1.0) -> tuple[Tensor, Tensor]:
    """Score of the task, its sign such that more is better, `(run,)`, and use `(run, modalities)`."""
    gains = task.gain(predict_logits(model, clips), clips.target)
    return gains.cpu() * unit, perceptual_scores(model, clips, gains, task).cpu() * unit


def modality_scaling(group: RunGroup) -> list[list[dict[str, Any]]]:
    """Curve of each run of a group on test: ratio, factors, accuracy and use share; empty if it does not apply."""
    runs = group.runs
    if len(runs[0].modalities) < 2 or not runs[0].fuses or not is_scalable(group):
        return [[] for _ in runs]
    curves: list[list[dict[str, Any]]] = [[] for _ in runs]
    for ratio, factors in factors_of(runs[0].modalities).items():

        def of_fold(k: int, factors: Sequence[float] = factors) -> tuple[Tensor, Tensor]:
            return gain_and_use(scaled_model(group, k, factors), group.folds[k].test)

        accuracies, uses = (torch.stack(each).mean(0).numpy() for each in zip(*map_folds(group, of_fold), strict=True))
        for curve, value, use in zip(curves, accuracies, uses, strict=True):
            curve.append(
                {"ratio": ratio, "factors": [*factors], "accuracy": float(value), **_use(use, runs[0].modalities)}
            )
    return curves


def _use(use: np.ndarray, modalities: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Use and use share by modality; no use, no shares."""
    flat = {f"perceptual.{m}": float(u) for m, u in zip(modalities, use, strict=True)}
    shares = use_shares(flat, modalities)
    return {
        "use": {m: flat[f"perceptual.{m}"] for m in modalities},
        "use_share": {m: shares.get(f"use_share.{m}") for m in modalities},
    }
