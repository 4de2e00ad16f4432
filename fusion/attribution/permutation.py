"""Permutation: how far a prediction moves when one modality is taken from another clip.

    d_i^m   = JSD( softmax f(z_i), softmax f(z_i with z^m of clip pi(i)) )     Jensen-Shannon divergence in nats
    share_m = sum_i d_i^m / sum_k sum_i d_i^k                                  a ratio of sums: one clip has no share

Gradient x input measures the sensitivity near a clip's own z. This measures what the head does with the z of other
clips, which is what use measures, so that regularizing it moves use. It needs no second derivative.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from amr.fusion.attribution.base import Attribution, AttributionSettings, HeadFunction, attributions
from amr.fusion.run_axis.axes import of_same_runs
from amr.fusion.tasks.divergence import jensen_shannon

__all__ = ["Permutation", "has_partner", "jensen_shannon", "of_partners", "partners_with"]


def partners_with(present: Tensor, partners: Tensor) -> Tensor:
    """Partner of each clip for one modality, `(..., clips)`: itself if it or its partner lacks the modality.

    Args:
        present: Bool `(..., clips)`: the clips that have the modality; one more axis for several modalities.
        partners: Clip numbers `(..., clips)`.
    """
    both = present & present.gather(-1, partners.expand_as(present))
    return torch.where(both, partners, torch.arange(partners.shape[-1], device=partners.device))


def has_partner(present: Tensor, partners: Tensor) -> Tensor:
    """Whether each clip has another clip to take a modality from, bool `(..., clips, modalities)`.

    Args:
        present: Bool `(..., clips, modalities)`.
        partners: Clip numbers `(..., clips)`.
    """
    own = torch.arange(partners.shape[-1], device=partners.device)
    return (partners_with(present.movedim(-1, 0), partners) != own).movedim(0, -1)


def of_partners(values: Tensor, partners: Tensor) -> Tensor:
    """Values of each clip's partner: `(..., clips, *rest)` and `(..., clips)` to `(..., clips, *rest)`."""
    index = partners.view(*partners.shape, *[1] * (values.ndim - partners.ndim)).expand_as(values)
    return values.gather(partners.ndim - 1, index)


@attributions.register("permutation")
class Permutation(Attribution):
    """Jensen-Shannon divergence between the prediction and the one with a modality of another clip."""

    summary = "how far the prediction moves when a modality comes from another clip; moves use, at a low price"
    label = "permutation"
    citation = "docs/decisions/0004; after the perceptual score, Gat et al. 2021"
    uses_partners = True
    chooses_epoch = False
    uses_output = False
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
        """Logits, and the divergence of each clip and modality; 0 for clips whose partner lacks the modality."""
        if settings.partners is None:
            raise ValueError("partners must be given for permutation, got none. Pass a permutation of the clips.")
        parts = head.modality_logits(z) if hasattr(head, "modality_logits") else None
        if parts is None:  # one more forward pass per modality
            logits, others = head(z, present), torch.stack(_others(head, z, present, settings.partners))
        else:
            own = [*parts.values()]
            logits = sum(own[1:], own[0])
            partners = partners_with(present.movedim(-1, 0), of_same_runs(settings.partners, logits))
            others = torch.stack([logits - each for each in own]) + of_partners(torch.stack(own), partners)
        # (modality, ..., clips), or (modality, ..., clips, positions)
        divergence = settings.task.divergence(torch.stack([logits] * len(z)), others)
        return logits, (divergence.sum(-1) if divergence.ndim > present.ndim else divergence).movedim(0, -1)


def _others(head: HeadFunction, z: Mapping[str, Tensor], present: Tensor, partners: Tensor) -> list[Tensor]:
    """Logits with each modality of the partner."""
    result = []
    for (m, value), has_m in zip(z.items(), present.unbind(-1), strict=True):
        its_partners = partners_with(*(of_same_runs(x, value) for x in (has_m, partners)))
        result.append(head({**z, m: of_partners(value, its_partners)}, present))
    return result
