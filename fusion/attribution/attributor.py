"""The ways to attribute a decision to modalities, behind one call; and the regularizer for anyone's training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from amr.common.registry import unknown
from amr.fusion.attribution.gradients import (
    grad_x_input,
    integrated_gradients,
    magnitudes,
    output_cotangent,
    shapley_values,
    shares,
)
from amr.fusion.attribution.ratio import parse_ratio
from amr.fusion.attribution.regularizer import regularization
from amr.fusion.attribution.shapley import HeadFunction
from amr.fusion.config import ATTRIBUTIONS, BASELINES
from amr.fusion.heads import Head
from amr.fusion.heads.base import step_mask
from amr.fusion.run_axis.layers import of_runs


@dataclass(frozen=True)
class Attributor:
    """Shares of a head's decisions, one way to compute them.

    Args:
        output: probability, logit or centered.
        pooling: l2 or l1, over a modality's attributions; Shapley values are one number a modality.
        attribution: grad_x_input, integrated_gradients or shapley.
        baseline: zero or mean (over the clips given): what integrated gradients start from and what stands in for an
            absent modality in Shapley values.
        num_steps: of integrated gradients.
        by_autograd: use double backward also where the head has a pullback: the reference that tests compare with.
    """

    output: str = "probability"
    pooling: str = "l2"
    attribution: str = "grad_x_input"
    baseline: str = "zero"
    num_steps: int = 16
    by_autograd: bool = False

    def __post_init__(self) -> None:
        """Check the names."""
        if self.attribution not in ATTRIBUTIONS:
            raise unknown("--attribution", self.attribution, ATTRIBUTIONS)
        if self.baseline not in BASELINES:
            raise unknown("--attribution-baseline", self.baseline, BASELINES)

    def shares(
        self, head: Head | HeadFunction, z: Mapping[str, Tensor], present: Tensor, *, create_graph: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, shares and which clips count, at z as a constant.

        Args:
            head: z and present to logits `(..., clips, classes)`.
            z: modality to `(..., clips, dim)` or `(..., clips, steps, dim)`.
            present: bool `(..., clips, modalities)`.
            create_graph: keep the graph, so that a loss on the shares trains the head.

        Returns:
            Logits, shares `(..., clips, modalities)`, and bool `(..., clips)`.
        """
        with torch.set_grad_enabled(create_graph):
            results = self._shares(head, {m: value.detach() for m, value in z.items()}, present, create_graph)
        return results if create_graph else tuple(result.detach() for result in results)  # type: ignore[return-value]

    def _shares(
        self, head: Head | HeadFunction, z: Mapping[str, Tensor], present: Tensor, create_graph: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        if isinstance(head, Head) and head.has_pullback and self.attribution == "grad_x_input" and not self.by_autograd:
            features = head.fuse(z, present)
            logits = head.classify(features)
            cotangent = output_cotangent(logits, self.output)
            norms = head.magnitudes(z, features, cotangent, self.pooling, zero_sum=self.output != "logit")
            return logits, *shares(norms, present)
        z = {m: of_runs(value, len(present)) for m, value in z.items()}
        if self.attribution == "shapley":
            logits, phi = shapley_values(head, z, present, self.output, self._baseline(z, present))
            return logits, *shares(phi.abs(), present)
        with torch.enable_grad():
            if self.attribution == "integrated_gradients":
                logits, alpha = integrated_gradients(
                    lambda x: head(x, present),
                    z,
                    self.output,
                    self._baseline(z, present),
                    num_steps=self.num_steps,
                    create_graph=create_graph,
                )
            else:
                z = {m: value.requires_grad_() for m, value in z.items()}
                logits = head(z, present)
                alpha = grad_x_input(logits, z, self.output, create_graph=create_graph)
        return logits, *shares(magnitudes(alpha, self.pooling, clip_axis=present.ndim - 2), present)

    def _baseline(self, z: Mapping[str, Tensor], present: Tensor) -> dict[str, Tensor] | None:
        """The mean over the clips, or over their steps, that are there; 0 behind a clip's steps."""
        if self.baseline == "zero":
            return None
        clips = present.ndim - 2
        means = {}
        for i, (m, value) in enumerate(z.items()):
            steps = value.ndim - clips - 2
            there = present[..., i]
            if steps:
                there = there[..., None] & step_mask(value)
            weight = there[..., None].to(value.dtype)  # (..., clips, 1), or (..., clips, steps, 1)
            axes = tuple(range(clips, value.ndim - 1))
            mean = (value * weight).sum(axes, keepdim=True) / weight.sum(axes, keepdim=True).clamp_min(1)
            means[m] = mean * weight if steps else mean
        return means


class AttributionRegularizer(nn.Module):
    """R of the paper (eq. 1), for a training loop of your own: two lines.

    R sees z as a constant: it trains the head, never the encoders before it.

    Args:
        ratio: `1:1`, `3:1`, or shares such as (0.7, 0.3), in the order of z.
        attributor: how shares are attributed; by default gradient x input of the probability.

    Example:
        >>> head = nn.Linear(8, 3)
        >>> regularizer = AttributionRegularizer("1:1")
        >>> z = {"audio": torch.randn(4, 5), "video": torch.randn(4, 3)}
        >>> loss = regularizer(lambda z: head(torch.cat([z["audio"], z["video"]], dim=-1)), z)
        >>> loss.backward()
        >>> head.weight.grad.shape
        torch.Size([3, 8])
    """

    ratio: Tensor

    def __init__(self, ratio: str | Sequence[float], attributor: Attributor | None = None) -> None:
        super().__init__()
        text = ratio if isinstance(ratio, str) else ":".join(repr(float(part)) for part in ratio)
        if "=" in text:
            raise ValueError(f"ratio must be in the order of z, without names, got {ratio!r}. Pass for example 3:1.")
        self.attributor = Attributor() if attributor is None else attributor
        self.register_buffer("ratio", torch.tensor(parse_ratio(text)))

    def forward(
        self,
        head: Callable[[Mapping[str, Tensor]], Tensor],
        z: Mapping[str, Tensor],
        present: Tensor | None = None,
    ) -> Tensor:
        """The distance of the batch's shares from the ratio; a scalar.

        Args:
            head: z to logits `(batch, classes)`; it must take gradients (no `no_grad` inside).
            z: modality to `(batch, dim)` or `(batch, steps, dim)`, as the encoders give them.
            present: bool `(batch, modalities)`; None: every clip has every modality.

        Raises:
            ValueError: the ratio has another number of parts than z.
        """
        if len(self.ratio) != len(z):
            raise ValueError(f"ratio must have one part for each of {', '.join(z)}, got {len(self.ratio)} parts.")
        first = next(iter(z.values()))
        if present is None:
            present = torch.ones(len(first), len(z), dtype=torch.bool, device=first.device)
        _, share, counted = self.attributor.shares(lambda x, _: head(x), z, present, create_graph=True)
        return regularization(share, counted, self.ratio)
