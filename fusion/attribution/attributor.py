"""One call for every attribution: shares of a head's decisions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from amr.common.registry import unknown
from amr.fusion.attribution import gradients, integrated, shapley  # noqa: F401  (importing registers them)
from amr.fusion.attribution.base import AttributionSettings, HeadFunction, attributions
from amr.fusion.attribution.share import shares
from amr.fusion.choices import BASELINES, OUTPUTS, POOLINGS
from amr.fusion.run_axis.axes import of_runs, step_mask


@dataclass(frozen=True)
class Attributor:
    """Shares of a head's decisions by one attribution method.

    Args:
        output: Output of the predicted class that is attributed: probability, logit or centered. "probability" is its
            log-odds for gradient x input, and log p for integrated gradients and Shapley values.
        pooling: Norm over a modality's attributions: l2 or l1. It does not affect Shapley values, which are one number
            per modality.
        attribution: Name in `attributions`: grad_x_input, integrated_gradients, shapley, ...
        baseline: Values that mean "absent": zero, or the mean over the given clips. Integrated gradients start from
            them; Shapley values replace an absent modality by them.
        num_points: Number of points on the line of integrated gradients.

    Raises:
        ValueError: A name is unknown.
    """

    output: str = "probability"
    pooling: str = "l2"
    attribution: str = "grad_x_input"
    baseline: str = "zero"
    num_points: int = 16

    def __post_init__(self) -> None:
        """Check the names."""
        choices: dict[str, Collection[str]] = {
            "output": OUTPUTS,
            "pooling": POOLINGS,
            "attribution": [*attributions],
            "baseline": BASELINES,
        }
        for name, available in choices.items():
            if getattr(self, name) not in available:
                raise unknown(name, getattr(self, name), available)
        if self.num_points < 1:
            raise ValueError(f"num_points must be 1 or more, got {self.num_points}. The default is 16.")

    def shares(
        self, head: HeadFunction, z: Mapping[str, Tensor], present: Tensor, *, create_graph: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, shares and the clips with a defined share.

        z is detached: a loss on the shares never reaches the encoders.

        Args:
            head: Function of z and present that returns logits `(..., clips, classes)`.
            z: Modality to its encoding, `(..., clips, dim)` or `(..., clips, steps, dim)`.
            present: Bool `(..., clips, modalities)`.
            create_graph: Whether to keep the graph, so that a loss on the shares trains the head.

        Returns:
            Logits, shares `(..., clips, modalities)`, and bool `(..., clips)`: whether the share is defined.
        """
        attribution = attributions[self.attribution]()
        constant = {m: value.detach() for m, value in z.items()}
        baseline = None
        if self.baseline == "mean" and attribution.uses_baseline:
            constant = {m: of_runs(value, len(present)) for m, value in constant.items()}
            baseline = mean_baseline(constant, present)
        settings = AttributionSettings(self.output, self.pooling, self.num_points, baseline)
        with torch.set_grad_enabled(create_graph):
            logits, magnitude = attribution.magnitudes(head, constant, present, settings, create_graph=create_graph)
            share, counted = shares(magnitude, present)
        return (logits, share, counted) if create_graph else (logits.detach(), share.detach(), counted)


def mean_baseline(z: Mapping[str, Tensor], present: Tensor) -> dict[str, Tensor]:
    """Mean of each modality over the clips that have it, and over their steps; 0 at padded steps."""
    clips = present.ndim - 2
    means = {}
    for i, (m, value) in enumerate(z.items()):
        has_steps = value.ndim > clips + 2
        valid = present[..., i]
        if has_steps:
            valid = valid[..., None] & step_mask(value)
        weight = valid[..., None].to(value.dtype)  # (..., clips, 1), or (..., clips, steps, 1)
        axes = tuple(range(clips, value.ndim - 1))
        mean = (value * weight).sum(axes, keepdim=True) / weight.sum(axes, keepdim=True).clamp_min(1)
        means[m] = mean * weight if has_steps else mean
    return means
