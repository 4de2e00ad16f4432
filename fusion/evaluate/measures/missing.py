"""Accuracy on every subset of the modalities, and what each modality contributes to it.

The other modalities are replaced by a baseline: zero (removed, and marked as absent), the mean of the train clips, or
the same modalities of another clip, over 10 permutations.

    use                 u_m   = v(all) - v(all but m), by permutation (the perceptual score of Gat et al. 2021)
    use share           max(u_m, 0) / sum over k of max(u_k, 0)
    alone               v(m), with the train mean for the rest
    Shapley value       phi_m = sum over S without m of |S|! (M - |S| - 1)! / M! [v(S ∪ {m}) - v(S)],    v the accuracy
    Shapley use share   phi_m / sum over k of phi_k, by permutation
    utilization         (v(all) - v(all but m)) / v(all), with the train mean for m (Wu et al. 2022, u(m | rest))

Wu et al. replace the features of a modality by their mean over the train set, so utilization does, too. By permutation
it would be use divided by the accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from amr.fusion.attribution.shapley import shapley_split, subsets
from amr.fusion.choices import TASKS
from amr.fusion.data.clips import NUM_PERMUTATIONS
from amr.fusion.evaluate.measures.base import Measure, measures
from amr.fusion.evaluate.perturb import Name, Subject, permuted, without

BASELINES = ("zero", "mean", "permutation")


def per_clip(subject: Subject) -> dict[Name, Tensor]:
    """Keys `missing, baseline, subset`: how often each clip is correct, `(run, clips)`, for all proper subsets."""
    return {name: values for baseline in BASELINES for name, values in of_baseline(subject, baseline).items()}


def of_baseline(subject: Subject, baseline: str) -> dict[Name, Tensor]:
    """The part of `per_clip` that one baseline makes: `zero`, `mean` or `permutation`."""
    orders = subject.permutations(NUM_PERMUTATIONS) if baseline == "permutation" else []
    result = {}
    for i, subset in enumerate(subsets(len(subject.modalities))[:-1]):
        replaced = [m for m, selected in zip(subject.modalities, subset, strict=True) if not selected]
        if baseline == "zero":
            correct = subject.correct(subject.clips, partial(without, modalities=replaced)).float()
        elif baseline == "mean":
            correct = subject.by_subset.correct[i]
        else:
            inputs = (permuted(subject.clips, replaced, order) for order in orders)
            correct = torch.stack([subject.correct(clips).float() for clips in inputs]).mean(0)
        result[subset_name(baseline, subject.modalities, subset)] = correct
    return result


LEAST = 1e-9  # sum of accuracies that is more than rounding


def derived(means: Mapping[Name, np.ndarray], modalities: Sequence[str]) -> dict[Name, np.ndarray]:
    """Full minus worst, use, alone, utilization and Shapley values from the accuracies, all of one shape.

    Baselines that were not measured are left out, and what follows from them.
    """
    result: dict[Name, np.ndarray] = {}
    full = means[("accuracy",)]
    measured = [baseline for baseline in BASELINES if ("nothing", baseline) in means]
    for baseline in measured:
        names = [subset_name(baseline, modalities, subset) for subset in subsets(len(modalities))[:-1]]
        result["missing", baseline, "+".join(modalities)] = full
        worst = np.min([means[name] for name in names[1:]], axis=0)  # without the empty subset
        result["full_minus_worst", baseline] = full - np.minimum(worst, full)
        values = np.stack([*(means[name] for name in names), full])
        phi = shapley_split(torch.from_numpy(values)).numpy()
        total = np.where(phi.sum(0) > LEAST, phi.sum(0), np.nan)  # no gain, no shares
        for m, value in zip(modalities, phi, strict=True):
            result["shapley", baseline, m] = value
            result["shapley_share", baseline, m] = value / total
    for m in modalities:
        rest = "+".join(other for other in modalities if other != m)
        result["perceptual", m] = full - means["missing", "permutation", rest]
        result["shapley_use_share", m] = result["shapley_share", "permutation", m]
        if "mean" in measured:
            result["alone", m] = means["missing", "mean", m]
            result["utilization", m] = (full - means["missing", "mean", rest]) / np.where(full > 0, full, np.nan)
    used = {m: np.maximum(result["perceptual", m], 0) for m in modalities}
    total = sum(used.values(), np.zeros_like(full))
    for m in modalities:
        result["use_share", m] = used[m] / np.where(total > LEAST, total, np.nan)
    return result


def subset_name(baseline: str, modalities: Sequence[str], subset: Sequence[bool]) -> Name:
    """Name of the accuracy with a subset of the modalities, the others replaced by a baseline."""
    selected = "+".join(m for m, included in zip(modalities, subset, strict=True) if included)
    return ("missing", baseline, selected) if selected else ("nothing", baseline)


@measures.register("missing")
class Missing(Measure):
    """Accuracy on every subset of the modalities, use, alone, utilization and Shapley values."""

    summary = (
        "accuracy on every subset of the modalities, with zero, the train mean or a permutation for the rest; "
        "use, alone, conditional utilization and Shapley values"
    )
    citation = "Gat et al. 2021; Wu et al. 2022; Shapley 1953"
    least_modalities = 2
    tasks = TASKS
    words: ClassVar[Mapping[str, str]] = {
        "full_minus_worst": "accuracy lost with the worst subset",
        "use_share": "use share of",
        "shapley_use_share": "Shapley use share of",
        "alone": "accuracy alone of",
        "utilization": "utilization of",
        "shapley_share": "Shapley share of",
        "shapley": "Shapley value of",
        "missing": "accuracy with only",
        "nothing": "accuracy with nothing left",
        "perceptual": "use of",
    }

    def per_clip(self, subject: Subject) -> dict[Name, Tensor]:
        """Keys `missing, baseline, subset`: how often each clip is classified correctly with that subset only."""
        return per_clip(subject)

    def derived(self, means: Mapping[Name, np.ndarray], modalities: Sequence[str]) -> dict[Name, np.ndarray]:
        """Full minus worst, use, alone, utilization, and Shapley values and shares."""
        return derived(means, modalities)
