"""Logits of a head on every subset of its modalities, and their exact Shapley values.

A modality outside the subset is replaced by a baseline, zero by default, and marked as absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import product
from math import factorial

import torch
from torch import Tensor

from amr.common.devices import upload
from amr.fusion.attribution.base import Attribution, AttributionSettings, HeadFunction, attributions
from amr.fusion.run_axis.axes import of_runs
from amr.fusion.tasks.base import Task
from amr.fusion.tasks.multiclass import MULTICLASS

MOST_APART = 2  # modalities up to which each subset has a forward pass of its own; with more, sums are quicker


def subsets(num_modalities: int) -> list[tuple[bool, ...]]:
    """Every subset of the modalities, from none to all; each says which modalities are in it.

    >>> subsets(2)
    [(False, False), (False, True), (True, False), (True, True)]
    """
    return list(product((False, True), repeat=num_modalities))


def subset_logits(
    head: HeadFunction, z: Mapping[str, Tensor], present: Tensor, baseline: Mapping[str, Tensor] | None = None
) -> Tensor:
    """Logits of each subset, `(subsets, ..., clips, classes)`, in the order of `subsets`.

    Args:
        head: Function of z and present that returns logits.
        z: Modality to its encoding, `(..., clips, dim)`.
        present: Bool `(..., clips, modalities)`.
        baseline: Modality to the values that replace it, broadcast to its z; None for zero.
    """
    if len(z) > MOST_APART and (sums := _sums_of_parts(head, z, present, baseline)) is not None:
        return sums
    results = []
    for subset in subsets(len(z)):
        in_subset = dict(zip(z, subset, strict=True))
        masked = {
            m: _present_or_baseline(value, present[..., i], m, baseline)
            if in_subset[m]
            else _replacement(value, m, baseline)
            for i, (m, value) in enumerate(z.items())
        }
        results.append(head(masked, _only(subset, present)))
    return torch.stack(results)


def _sums_of_parts(
    head: HeadFunction, z: Mapping[str, Tensor], present: Tensor, baseline: Mapping[str, Tensor] | None
) -> Tensor | None:
    """`subset_logits` of a head whose logits are a sum over the modalities, in two passes; None for another head."""
    if not hasattr(head, "modality_logits"):
        return None
    outside = head.modality_logits({m: _replacement(x, m, baseline) for m, x in z.items()})
    if outside is None:
        return None
    masked = {m: _present_or_baseline(x, present[..., i], m, baseline) for i, (m, x) in enumerate(z.items())}
    inside = head.modality_logits(masked)
    parts = torch.stack([of[m] for of in (inside, outside) for m in z])  # (2 modalities, ..., clips, classes)
    return torch.tensordot(_members(len(z), parts.dtype, parts.device), parts, dims=1)


@cache  # made anew in each step, they would be copied to the device each time
@torch.inference_mode(False)
def _members(num_modalities: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """1 for each modality of a subset, then 1 for each of the others, `(subsets, 2 modalities)`."""
    inside = torch.tensor(subsets(num_modalities), dtype=dtype)
    return upload(torch.cat([inside, 1 - inside], dim=1), device)


def _only(subset: tuple[bool, ...], present: Tensor) -> Tensor:
    """`present`, bool `(..., clips, modalities)`, without the modalities outside the subset."""
    columns = present.unbind(-1)
    return torch.stack([x if kept else torch.zeros_like(x) for x, kept in zip(columns, subset, strict=True)], dim=-1)


def _present_or_baseline(
    value: Tensor, present: Tensor, modality: str, baseline: Mapping[str, Tensor] | None
) -> Tensor:
    """z of a modality in the subset, with the baseline for clips that lack it."""
    if baseline is None:
        return value
    present = present.view(*present.shape, *[1] * (value.ndim - present.ndim))
    return torch.where(present, value, _replacement(value, modality, baseline))


def _replacement(value: Tensor, modality: str, baseline: Mapping[str, Tensor] | None) -> Tensor:
    return torch.zeros_like(value) if baseline is None else baseline[modality].expand_as(value)


def shapley_split(values: Tensor) -> Tensor:
    """Exact Shapley value of each modality: `(subsets, ...)` to `(modalities, ...)`.

    phi_m = sum over S without m of |S|! (M - |S| - 1)! / M! [v(S ∪ {m}) - v(S)]

    Args:
        values: Value of each subset, `(subsets, ...)`, in the order of `subset_logits`: from none to all, the last
            modality changing first.

    >>> shapley_split(torch.tensor([0.0, 1.0, 3.0, 4.0]))  # v(none), v(second), v(first), v(both)
    tensor([3., 1.])
    """
    return torch.tensordot(_weights(len(values).bit_length() - 1, values.dtype, values.device), values, dims=1)


@cache  # made anew in each step, they would be copied to the device each time
@torch.inference_mode(False)
def _weights(num_modalities: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Weight of each subset in the Shapley value of each modality, `(modalities, subsets)`."""
    weights = [
        [_weight(sum(subset), subset[m], num_modalities) for subset in subsets(num_modalities)]
        for m in range(num_modalities)
    ]
    return upload(torch.tensor(weights, dtype=dtype), device)


def _weight(size: int, in_subset: bool, num_modalities: int) -> float:
    """Weight of v(S) in phi_m for an S of this size: positive if m is in S, else negative."""
    others = size - 1 if in_subset else size
    weight = factorial(others) * factorial(num_modalities - others - 1) / factorial(num_modalities)
    return weight if in_subset else -weight


def unimodal_logits(head: HeadFunction, z: Mapping[str, Tensor], present: Tensor) -> Tensor:
    """Uni-modal logits `(modalities, ..., clips, classes)`, which sum to the joint logits.

    out_m = phi_m + f(none) / M, with phi the Shapley values of the logits over the subsets of modalities, absent ones
    zero. For linear concat and sum heads out_m = W_m z^m + b / M. For M = 2 it is AGM's
    (f(a, v) - f(0, v) + f(a, 0)) / 2 (Li et al. 2023). Every method that needs uni-modal logits uses this function.
    """
    values = subset_logits(head, z, present)
    return shapley_split(values) + values[0] / len(z)


def shapley_values(
    head: HeadFunction,
    z: Mapping[str, Tensor],
    present: Tensor,
    output: str = "probability",
    baseline: Mapping[str, Tensor] | None = None,
    *,
    task: Task = MULTICLASS,
) -> tuple[Tensor, Tensor]:
    """Logits at z, and each modality's exact Shapley value of the output, signed, `(..., clips, modalities)`.

    The output is log p of the class predicted at z, its logit, or its centered logit; of logits for several positions,
    the sum over the positions. The baseline replaces absent modalities. The values sum to output(all) - output(none).
    """
    values = subset_logits(head, z, present, baseline)
    logits = values[-1]
    decided = task.decided_outputs(logits)
    decided = decided.expand(len(values), *decided.shape)
    outputs = task.attributed_value(values, decided, output)  # (subsets, ..., clips), or with positions at the end
    if outputs.ndim > present.ndim:
        outputs = outputs.flatten(present.ndim).sum(-1)
    return logits, shapley_split(outputs).movedim(0, -1)


@attributions.register("shapley")
class Shapley(Attribution):
    """Absolute exact Shapley value of each modality. Training on it needs no second derivative."""

    summary = "exact Shapley values over the subsets of modalities, absent ones replaced by the baseline"
    label = "Shapley"
    citation = "Shapley 1953; Lundberg & Lee 2017"
    uses_baseline = True
    uses_pooling = False

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
        logits, phi = shapley_values(head, z, present, settings.output, settings.baseline, task=settings.task)
        return logits, phi.abs()
