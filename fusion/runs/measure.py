"""What every result reports of a part: accuracy, mAP, F1, the shares, and what permuting a modality costs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.attribution.share import mean_share
from amr.fusion.data.clips import Clips
from amr.fusion.model import FusionModel, predict_logits, predict_shares
from amr.fusion.run_axis.seeds import generator
from amr.fusion.runs.metrics import accuracy, macro_f1, mean_average_precision

NUM_PERMUTATIONS = 10

Measures = dict[str, Any]


def measure(model: FusionModel, clips: Clips, attributor: Attributor) -> list[Measures] | None:
    """One dictionary a run, of JSON values; None where there are no clips.

    `share` and `share_logit` are gradient x input (L2) of the probability and of the logit, `share_regularized` is
    what `attributor` measures, whatever the run was pulled by. A share that no clip has is None.
    """
    if len(clips) == 0:
        return None
    views = {
        "share": Attributor(),
        "share_logit": Attributor(output="logit"),
        "share_regularized": attributor,
    }
    predicted = {a: predict_shares(model, clips, a) for a in dict.fromkeys(views.values())}  # two are often one
    measured = {view: predicted[a] for view, a in views.items()}
    logits = measured["share"][0]
    right = accuracy(logits, clips.target)  # (run,)
    costs = perceptual_scores(model, clips, right)
    results = []
    for run in range(len(logits)):
        scores = logits[run].softmax(-1)
        average_precision, left_out = mean_average_precision(scores, clips.target)
        result: Measures = {
            "accuracy": float(right[run]),
            "map": average_precision,
            "f1": macro_f1(scores, clips.target),
        }
        for view, (_, share, counted) in measured.items():
            result[view] = _named(model, mean_share(share[run], counted[run]))
        result["perceptual"] = _named(model, costs[run])
        result["num_clips"] = len(clips)
        result["num_clips_without_share"] = int((~measured["share"][2][run]).sum())
        result["num_classes_without_clips"] = left_out
        results.append(result)
    return results


def perceptual_scores(model: FusionModel, clips: Clips, right: Tensor) -> Tensor:
    """`(run, modalities)`: the accuracy that is lost when one modality comes from other clips (Gat et al. 2021).

    P_m = Acc(x) - mean over permutations of Acc(x with modality m permuted); the same 10 permutations for every run
    and modality.

    Args:
        model: the fitted group.
        clips: the part it is measured on.
        right: `(run,)`: its accuracy on them.
    """
    orders = permutation_orders(clips)
    costs = []
    for modality in model.modalities:
        permuted = [accuracy(predict_logits(model, clips.with_permuted(modality, o)), clips.target) for o in orders]
        costs.append(right - torch.stack(permuted).mean(0))
    return torch.stack(costs, dim=-1)


def permutation_orders(clips: Clips, count: int = NUM_PERMUTATIONS, seed: int = 0) -> list[Tensor]:
    """Seeded orders of the clips, `(clips,)` each: the same for every run and modality."""
    draws = generator(seed, "permutations")
    return [torch.randperm(len(clips), generator=draws).to(clips.target.device) for _ in range(count)]


def mean_measures(measures: list[Measures]) -> Measures:
    """The unweighted mean over folds of every number; counts are summed."""
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


def _mean(values: list[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def _named(model: FusionModel, values: Tensor) -> dict[str, float | None]:
    return {m: None if math.isnan(value) else value for m, value in zip(model.modalities, values.tolist(), strict=True)}
