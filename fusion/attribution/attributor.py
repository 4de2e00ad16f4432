"""One call for every attribution: shares of a head's decisions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, cast

import torch
from torch import Tensor

from amr.common.registry import unknown
from amr.fusion.attribution import gradients, integrated, permutation, shapley  # noqa: F401  (importing registers them)
from amr.fusion.attribution.any_head.call import AnyHead
from amr.fusion.attribution.any_head.inputs import check_values, clip_numbers, named_encodings, presence
from amr.fusion.attribution.base import AttributionSettings, HeadFunction, attributions
from amr.fusion.attribution.baseline import baseline_values, mean_encoding
from amr.fusion.attribution.permutation import has_partner
from amr.fusion.attribution.share import counted_magnitudes, shares
from amr.fusion.choices import BASELINES, OUTPUTS, POOLINGS
from amr.fusion.run_axis.axes import of_runs
from amr.fusion.tasks import tasks


@dataclass(frozen=True)
class Attributor:
    """Shares of a head's decisions by one attribution method.

    Args:
        output: Output of the predicted class that is attributed: probability, logit or centered. "probability" is its
            log-odds for gradient x input, and log p for integrated gradients and Shapley values.
        pooling: Norm over a modality's attributions: l2 or l1. It does not affect Shapley values and permutation, which
            are one number per modality.
        attribution: Name in `attributions`: grad_x_input, integrated_gradients, shapley, permutation.
        baseline: Values that mean "absent": zero, or the mean over the train clips. Integrated gradients start from
            them; Shapley values replace an absent modality by them.
        num_points: Number of points on the line of integrated gradients.
        task: What the logits say: multiclass; multilabel, of which the summed log-odds of the predicted labels are
            attributed; or regression, of which the value is.

    Raises:
        ValueError: A name is unknown, or the attribution has no such output.

    Example:
        >>> head = lambda z: z["audio"] @ torch.ones(5, 3) + z["video"] @ torch.eye(3)
        >>> z = {"audio": torch.randn(8, 5), "video": torch.randn(8, 3)}
        >>> _, share, counted = Attributor().shares(head, z)
        >>> share.shape, bool(share.sum(-1).allclose(torch.ones(8)))
        (torch.Size([8, 2]), True)

        By permutation, a clip has no share of its own; a batch has. Here no audio changes a prediction:

        >>> _, divergence, _ = Attributor(attribution="permutation").shares(head, z, partners=torch.arange(8).roll(1))
        >>> (divergence.sum(0) / divergence.sum()).round(decimals=2).abs()
        tensor([0., 1.])
    """

    output: str = "probability"
    pooling: str = "l2"
    attribution: str = "grad_x_input"
    baseline: str = "zero"
    num_points: int = 16
    task: str = "multiclass"

    def __post_init__(self) -> None:
        """Check the names."""
        choices: dict[str, Collection[str]] = {
            "output": OUTPUTS,
            "pooling": POOLINGS,
            "attribution": [*attributions],
            "baseline": BASELINES,
            "task": [*tasks],
        }
        for name, available in choices.items():
            if getattr(self, name) not in available:
                raise unknown(name, getattr(self, name), available)
        if self.output != "probability" and not attributions[self.attribution].uses_output:
            raise ValueError(
                f"output must be probability for {self.attribution}, got {self.output}. It compares probabilities."
            )
        if self.output not in tasks[self.task].attributed:
            listed = " or ".join(tasks[self.task].attributed)
            raise ValueError(f"output must be {listed} for {self.task}, got {self.output}. Leave it out.")
        if not isinstance(self.num_points, Integral) or self.num_points < 1:
            raise ValueError(f"num_points must be 1 or more, got {self.num_points!r}. Pass a whole number, such as 16.")

    @property
    def uses_partners(self) -> bool:
        """Whether clips are compared: shares are then ratios of sums, and a clip has none of its own."""
        return attributions[self.attribution].uses_partners

    @property
    def chooses_epoch(self) -> bool:
        """Whether R counts when val chooses the epoch."""
        return attributions[self.attribution].chooses_epoch

    @property
    def needs_mean(self) -> bool:
        """Whether shares depend on a mean of z."""
        return self.baseline == "mean" and attributions[self.attribution].uses_baseline

    def shares(
        self,
        head: Callable[..., Any],
        z: Mapping[str, Tensor] | Sequence[Tensor],
        present: Any = None,
        *,
        mean: Mapping[str, Tensor] | None = None,
        partners: Tensor | None = None,
        create_graph: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, shares and the clips with a defined share.

        z is detached: a loss on the shares never reaches the encoders. Call `head.eval()` first: dropout makes shares
        random. Buffers of a head that is a module stay as they are.

        Args:
            head: Module or function that returns logits, as for `AttributionRegularizer`.
            z: Modality to its encoding, `(..., clips, dim)` or `(..., clips, steps, dim)`; or a sequence of encodings.
            present: Bool `(..., clips, modalities)`; None if every clip has every modality.
            mean: Modality to the mean of its z over the train clips, `(dim,)`, for the baseline "mean"; None for the
                mean over the given clips.
            partners: Clip number of each clip's partner, `(..., clips)` or `(clips,)`, for permutation; None for a
                random permutation by torch's default generator.
            create_graph: Whether to keep the graph, so that a loss on the shares trains the head.

        Returns:
            Logits, shares `(..., clips, modalities)`, and bool `(..., clips)`: whether the share is defined. For
            permutation, divergences in place of shares: their sums over clips have the ratio of the shares.

        Raises:
            ValueError: head, z and present do not fit together, or z is not finite.
            RuntimeError: The head lacks a derivative.
        """
        if hasattr(head, "closed_form"):  # a `Head` of this package: its input was checked when it was read
            named = named_encodings(z) if present is None else cast(Mapping[str, Tensor], z)
            if present is None:
                first = next(iter(named.values()))
                present = torch.ones(*first.shape[:2], len(named), dtype=torch.bool, device=first.device)
            return self._shares(head, named, present, mean, partners, create_graph)
        with torch.inference_mode(False):
            named = named_encodings(z)
            present = presence(present, named)
            call = head if isinstance(head, AnyHead) else AnyHead(head, [*named], as_arguments=not hasattr(z, "keys"))
            call.is_multiclass = tasks[self.task].one_class
            compared = present
            if self.uses_partners:
                partners = clip_numbers(partners, present)
                compared = present & has_partner(present, partners)
            logits, share, counted = self._shares(call, named, present, mean, partners, create_graph)
            check_values(named, share, compared)
            return call.original(logits), share, counted

    def _shares(
        self,
        head: HeadFunction,
        z: Mapping[str, Tensor],
        present: Tensor,
        mean: Mapping[str, Tensor] | None,
        partners: Tensor | None,
        create_graph: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        constant = {m: value.detach() for m, value in z.items()}
        baseline = None
        if self.needs_mean:
            constant = {m: of_runs(value, len(present)) for m, value in constant.items()}
            mean = mean_encoding([(constant, present)]) if mean is None else mean
            baseline = baseline_values(mean, constant, present)
        if self.uses_partners and partners is None:
            partners = clip_numbers(None, present)
        settings = AttributionSettings(self.output, self.pooling, self.num_points, baseline, partners, tasks[self.task])
        with torch.set_grad_enabled(create_graph):
            logits, magnitude = attributions[self.attribution]().magnitudes(
                head, constant, present, settings, create_graph=create_graph
            )
            share, counted = (counted_magnitudes if self.uses_partners else shares)(magnitude, present)
        return (logits, share, counted) if create_graph else (logits.detach(), share.detach(), counted)


def as_attributor(requested: Attributor | str | None) -> Attributor:
    """Attributor as requested: itself, one by the name of its attribution, or the default.

    Raises:
        ValueError: It is none of these.
    """
    if isinstance(requested, Attributor):
        return requested
    if requested is None:
        return Attributor()
    if isinstance(requested, str):
        return Attributor(attribution=requested)
    raise ValueError(
        f"attributor must be an Attributor or the name of an attribution, got {type(requested).__name__}. "
        'Pass for example "permutation".'
    )
