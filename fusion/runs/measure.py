"""Measures that every result reports per split: accuracy, mAP, F1, shares, and the accuracy lost by permuting."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.attribution.share import mean_share
from amr.fusion.data.clips import Clips, permutation_orders
from amr.fusion.data.targets import TargetScale
from amr.fusion.model import FusionModel, predict_logits, predict_shares
from amr.fusion.tasks import Task, tasks
from amr.fusion.tasks.multiclass import MULTICLASS

ONE_SIDED = 0.1  # distance from the target from which a clip's share is one-sided

Measures = dict[str, Any]


def measure(
    model: FusionModel,
    clips: Clips,
    attributor: Attributor,
    target: Tensor | None = None,
    scale: TargetScale | None = None,
) -> list[Measures] | None:
    """Measure a run group: one dictionary of JSON values per run; None without clips.

    `share` and `share_logit` are gradient x input (L2) of the probability and of the logit, for every run alike.
    `share_regularized` is the share by `attributor`, the attribution of the run's settings. A share that no clip has
    is None. `share_spread` is the deviation of `share` between clips, and `one_sided` the fraction of clips whose
    share is more than .1 from the target.

    Args:
        model: Model of the run group.
        clips: Clips of the split.
        attributor: Attribution of the runs' settings.
        target: Target shares of each run, `(run, modalities)`; None for even ones.
        scale: Scale of a number that is predicted; None for classes and labels.
    """
    if len(clips) == 0:
        return None
    task = tasks[attributor.task]
    views = {
        "share": Attributor(task=attributor.task),
        "share_logit": Attributor(output="logit", task=attributor.task),
        "share_regularized": attributor,
    }
    predicted = {a: predict_shares(model, clips, a) for a in dict.fromkeys(views.values())}  # two are often equal
    measured = {view: predicted[a] for view, a in views.items()}
    logits = measured["share"][0]
    if target is None:
        target = torch.full((len(logits), len(model.modalities)), 1 / len(model.modalities), device=logits.device)
    costs = perceptual_scores(model, clips, task.gain(logits, clips.target), task)
    outputs, truth = (logits, clips.target) if scale is None else (scale.undo(logits), scale.undo(clips.target))
    costs = costs if scale is None else costs * scale.std
    results = []
    for run in range(len(logits)):
        of_task = {m: _number(value) for m, value in task.measures(outputs[run], truth).items()}
        result: Measures = {m: value for m, value in of_task.items() if not m.startswith("num_")}
        for view, (_, share, counted) in measured.items():
            of_sums = views[view].uses_partners
            result[view] = _by_modality(model, mean_share(share[run], counted[run], of_sums=of_sums))
        _, share, counted = measured["share"]
        spread, one_sided = _balance_of_clips(share[run][counted[run]], target[run])
        result["share_spread"], result["one_sided"] = _by_modality(model, spread), one_sided
        result["perceptual"] = _by_modality(model, costs[run])
        result["num_clips"] = len(clips)
        result["num_clips_without_share"] = int((~measured["share"][2][run]).sum())
        result |= {m: value for m, value in of_task.items() if m.startswith("num_")}
        results.append(result)
    return results


def _balance_of_clips(share: Tensor, target: Tensor) -> tuple[Tensor, float | None]:
    """Deviation of the shares `(clips, modalities)` of single clips, and the fraction of clips far from the target."""
    if len(share) == 0:
        return torch.full_like(target, torch.nan), None
    far = ((share - target).abs() > ONE_SIDED).any(-1)
    return share.std(0, correction=0), float(far.float().mean())


def perceptual_scores(model: FusionModel, clips: Clips, gains: Tensor, task: Task = MULTICLASS) -> Tensor:
    """Score lost when one modality is permuted between clips, `(run, modalities)` (Gat et al. 2021).

    P_m = Acc(x) - mean over permutations of Acc(x with modality m permuted); the same 10 permutations for every run
    and modality. Tasks have scores of their own in place of the accuracy (`Task.gain`).

    Args:
        model: Model of the run group.
        clips: Clips of the split.
        gains: Score of the runs on them, `(run,)`.
        task: What is predicted.
    """
    orders = permutation_orders(clips)
    costs = []
    for modality in model.modalities:
        permuted = [task.gain(predict_logits(model, clips.with_permuted(modality, o)), clips.target) for o in orders]
        costs.append(gains - torch.stack(permuted).mean(0))
    return torch.stack(costs, dim=-1)


def mean_measures(measures: list[Measures]) -> Measures:
    """Unweighted mean of every measure over folds; counts are summed."""
    result: Measures = {}
    for name, first in measures[0].items():
        values = [m[name] for m in measures]
        if isinstance(first, dict):
            result[name] = {k: _mean([v[k] for v in values]) for k in first}
        elif name.startswith("num_"):
            result[name] = sum(values)
        else:
            result[name] = _mean(values)
    return result


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _mean(values: list[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def _by_modality(model: FusionModel, values: Tensor) -> dict[str, float | None]:
    return {m: None if math.isnan(value) else value for m, value in zip(model.modalities, values.tolist(), strict=True)}
