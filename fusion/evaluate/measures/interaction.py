"""Interaction of the modalities: what a head does beyond adding them up.

    cooperation   C = A(all) - sum over m of A({m}) + (M - 1) A(none),    A the accuracy   (SHAPE, Hu et al. 2022)
    interaction   sum over i < j of |I_ij| / (sum over i of |D_i| + sum over i < j of |I_ij|)
                                                                         (InterSHAP, Wenderoth et al. 2025)

I_ij is the Shapley interaction index (Grabisch & Roubens 1999) of a clip's v(S), the output for the class that is
predicted with all modalities, if only S is known, and D_i what remains of the Shapley value of i:

    I_ij = sum over S without i, j of |S|! (M - |S| - 2)! / (M - 1)! [v(S ∪ {i, j}) - v(S ∪ {i}) - v(S ∪ {j}) + v(S)]
    D_i  = phi_i - 1/2 sum over j of I_ij

For two modalities I = v(12) - v(1) - v(2) + v(none) and D_i = v(i) - v(none). XOR has interaction 1, a sum has 0. On
probabilities, the softmax makes even linear heads interact; on logits, additive heads have exactly 0. Modalities that
are not known are at their train mean, where the authors of InterSHAP average over other samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import factorial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from amr.fusion.attribution.shapley import shapley_split, subsets
from amr.fusion.evaluate.measures.base import Measure, measures
from amr.fusion.evaluate.perturb import Name, Subject

ROUND_OFF = 1e-6  # of the largest |v|: what is smaller is float32's error


def interaction_indices(values: Tensor) -> Tensor:
    """Shapley interaction index of each pair: `(subsets, ...)` to `(pairs, ...)`.

    >>> interaction_indices(torch.tensor([0.0, 0.0, 0.0, 1.0]))
    tensor([1.])
    """
    num_modalities = len(values).bit_length() - 1
    pairs = combinations(range(num_modalities), 2)
    weights = [[_weight(subset, i, j) for subset in subsets(num_modalities)] for i, j in pairs]
    return torch.tensordot(values.new_tensor(weights), values, dims=1)


def _weight(subset: Sequence[bool], i: int, j: int) -> float:
    """Weight of v(subset) in I_ij."""
    others = sum(subset) - subset[i] - subset[j]
    weight = factorial(others) * factorial(len(subset) - others - 2) / factorial(len(subset) - 1)
    return weight if subset[i] == subset[j] else -weight


def interaction_share(values: Tensor) -> Tensor:
    """InterSHAP of each clip: `(subsets, ...)` to `(...)`; NaN where v does not depend on the modalities."""
    values = values.double()
    num_modalities = len(values).bit_length() - 1
    pairs = interaction_indices(values)
    main = shapley_split(values)
    for (i, j), index in zip(combinations(range(num_modalities), 2), pairs, strict=True):
        main[i] -= index / 2
        main[j] -= index / 2
    least = ROUND_OFF * values.abs().amax(0)
    joint, single = (torch.where(x.abs() > least, x.abs(), 0).sum(0) for x in (pairs, main))
    return joint / (joint + single)


@measures.register("interaction")
class Interaction(Measure):
    """InterSHAP on probabilities and on logits, and SHAPE's cooperation on the accuracy.

    Clips with fewer than two modalities do not count in InterSHAP.
    """

    summary = "interaction of the modalities beyond a sum: InterSHAP on probabilities and logits, SHAPE on the accuracy"
    citation = "Wenderoth et al. 2025; Hu et al. 2022"
    least_modalities = 2
    words: ClassVar[Mapping[str, str]] = {
        "interaction.probability": "interaction share of the probability",
        "interaction.logit": "interaction share of the logit",
        "cooperation": "cooperation",
    }

    def per_clip(self, subject: Subject) -> dict[Name, Tensor]:
        """Keys `interaction, probability` and `interaction, logit`: InterSHAP of each clip."""
        several = subject.clips.present.cpu().sum(-1) > 1
        of_probability = interaction_share(subject.by_subset.probability)
        if subject.is_additive:
            of_logit = torch.zeros_like(of_probability)
        else:
            of_logit = interaction_share(subject.by_subset.logit)
        shares = {"probability": of_probability, "logit": of_logit}
        return {("interaction", name): torch.where(several, x, torch.nan).float() for name, x in shares.items()}

    def derived(self, means: Mapping[Name, np.ndarray], modalities: Sequence[str]) -> dict[Name, np.ndarray]:
        """Key `cooperation`: accuracy with all modalities beyond what they add alone."""
        alone = sum(means["missing", "mean", m] - means["nothing", "mean"] for m in modalities)
        return {("cooperation",): means[("accuracy",)] - means["nothing", "mean"] - alone}
