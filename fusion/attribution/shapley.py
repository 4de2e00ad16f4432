"""What a head answers on every subset of its modalities, and the exact Shapley split of those answers.

An absent modality is replaced by a baseline, zero unless said otherwise, and marked as absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from math import factorial

import torch
from torch import Tensor

from amr.fusion.attribution.base import Attribution, AttributionSettings, HeadFunction, attributions
from amr.fusion.attribution.gradients import output_value
from amr.fusion.run_axis.axes import of_runs


def subsets(num_modalities: int) -> list[tuple[bool, ...]]:
    """Every subset of the modalities, from none to all, as which of them it holds.

    >>> subsets(2)
    [(False, False), (False, True), (True, False), (True, True)]
    """
    return list(product((False, True), repeat=num_modalities))


def subset_logits(
    head: HeadFunction, z: Mapping[str, Tensor], present: Tensor, baseline: Mapping[str, Tensor] | None = None
) -> Tensor:
    """`(subsets, ..., clips, classes)`: the logits of each subset, in the order of `subsets`.

    Args:
        head: z and present to logits.
        z: modality to `(..., clips, dim)`.
        present: bool `(..., clips, modalities)`.
        baseline: modality to what stands in for it, broadcast to its z; None: zero.
    """
    results = []
    for subset in subsets(len(z)):
        held = dict(zip(z, subset, strict=True))
        masked = {
            m: _held(value, present[..., i], m, baseline) if held[m] else _stand_in(value, m, baseline)
            for i, (m, value) in enumerate(z.items())
        }
        results.append(head(masked, present & torch.tensor(subset, device=present.device)))
    return torch.stack(results)


def _held(value: Tensor, there: Tensor, modality: str, baseline: Mapping[str, Tensor] | None) -> Tensor:
    """The modality, with the baseline where a clip lacks it."""
    if baseline is None:
        return value
    there = there.view(*there.shape, *[1] * (value.ndim - there.ndim))
    return torch.where(there, value, _stand_in(value, modality, baseline))


def _stand_in(value: Tensor, modality: str, baseline: Mapping[str, Tensor] | None) -> Tensor:
    return torch.zeros_like(value) if baseline is None else baseline[modality].expand_as(value)


def shapley_split(values: Tensor) -> Tensor:
    """The exact Shapley value of each modality: `(subsets, ...)` to `(modalities, ...)`.

    phi_m = sum over S without m of |S|! (M - |S| - 1)! / M! [v(S + m) - v(S)]

    >>> shapley_split(torch.tensor([0.0, 1.0, 3.0, 4.0]))  # v(none), v(second), v(first), v(both)
    tensor([3., 1.])
    """
    num_modalities = len(values).bit_length() - 1
    weights = [
        [_weight(sum(subset), held, num_modalities) for subset, held in _with(m, num_modalities)]
        for m in range(num_modalities)
    ]
    return torch.tensordot(values.new_tensor(weights), values, dims=1)


def _with(modality: int, num_modalities: int) -> list[tuple[tuple[bool, ...], bool]]:
    return [(subset, subset[modality]) for subset in subsets(num_modalities)]


def _weight(size: int, held: bool, num_modalities: int) -> float:
    """Of v(S) in phi_m: m is added to the other size - 1 of S, or would be to its size."""
    others = size - 1 if held else size
    weight = factorial(others) * factorial(num_modalities - others - 1) / factorial(num_modalities)
    return weight if held else -weight


def unimodal_logits(head: HeadFunction, z: Mapping[str, Tensor], present: Tensor) -> Tensor:
    """`(modalities, ..., clips, classes)`: each modality's part of the joint logits; they sum to them.

    out_m = phi_m + f(none) / M, with phi the Shapley split of the logits over the subsets of modalities, absent ones
    zero. For linear concat and sum heads out_m = W_m z^m + b / M; for M = 2 it is AGM's
    (f(a, v) - f(0, v) + f(a, 0)) / 2 (Li et al. 2023). Every method that needs uni-modal logits takes them from here.
    """
    values = subset_logits(head, z, present)
    return shapley_split(values) + values[0] / len(z)


def shapley_values(
    head: HeadFunction,
    z: Mapping[str, Tensor],
    present: Tensor,
    output: str = "probability",
    baseline: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Logits at z, and each modality's exact Shapley value of the output, signed: `(..., clips, modalities)`.

    The output is log p of the class predicted at z, its logit, or its centered logit; absent modalities are replaced
    by the baseline. The values sum to output(all) - output(none).
    """
    values = subset_logits(head, z, present, baseline)
    logits = values[-1]
    predicted = logits.argmax(-1, keepdim=True).expand(*values.shape[:-1], 1)
    return logits, shapley_split(output_value(values, predicted, output)).movedim(0, -1)


@attributions.register("shapley")
class Shapley(Attribution):
    """The absolute value of each modality's exact Shapley value; no second derivative is needed."""

    summary = "exact Shapley values over the subsets of modalities, absent ones replaced by the baseline"
    label = "Shapley"
    citation = "Shapley 1953; Lundberg & Lee 2017"
    uses_baseline = True

    def magnitudes(
        self,
        head: HeadFunction,
        z: Mapping[str, Tensor],
        present: Tensor,
        settings: AttributionSettings,
        *,
        create_graph: bool,
    ) -> tuple[Tensor, Tensor]:
        """Logits, and one number per clip and modality."""
        z = {m: of_runs(value, len(present)) for m, value in z.items()}
        logits, phi = shapley_values(head, z, present, settings.output, settings.baseline)
        return logits, phi.abs()
