"""On-the-fly gradient modulation (Peng et al. 2022, OGM; Kontras et al. 2024, MLB).

How far each modality leads, and by which factor its gradient is scaled.
"""

from __future__ import annotations

import torch
from torch import Tensor

from amr.fusion.run_axis.axes import at_target

TIE = 8  # units of rounding: the mean of three equal scores may differ from each


def score_ratios(out: Tensor, target: Tensor, present: Tensor | None = None) -> Tensor:
    """Score of each modality over the mean score of the others, `(modalities, ...)`; more than 1 if it leads.

    The score is the mean probability of the right class over the clips that have the modality. A modality that no clip
    has is not compared: its ratio is 1, as in a tie. No gradient flows through the ratios.

    Args:
        out: Logits of each modality, `(modalities, ..., clips, classes)`, such as `unimodal_logits`.
        target: Classes, `(..., clips)`.
        present: Bool `(..., clips, modalities)`; None if every clip has every modality.

    >>> even, sure = [[0.0, 0.0]], [[99.0, 0.0]]
    >>> score_ratios(torch.tensor([sure, even]), torch.tensor([0]))
    tensor([2.0000, 0.5000])
    """
    p_target = at_target(out.detach().softmax(-1), target)
    valid = torch.ones_like(p_target, dtype=torch.bool) if present is None else present.movedim(-1, 0)
    return _over_others(p_target, valid)


def share_ratios(share: Tensor, counted: Tensor, present: Tensor | None = None) -> Tensor:
    """Share of each modality over the mean share of the others, `(modalities, ...)`; more than 1 if it leads.

    The share of the batch is the mean over the clips that have the modality and a defined share. Clips with fewer
    modalities have larger shares. So each share counts in units of an even one, and a modality does not lead because
    others are missing beside it. A modality of which no clip has a share is not compared: its ratio is 1. No gradient
    flows through the ratios.

    Args:
        share: Shares of the clips, `(..., clips, modalities)`, of any attribution, such as `Attributor.shares`.
        counted: Bool `(..., clips)`: the clips with a defined share.
        present: Bool `(..., clips, modalities)`; None if every clip has every modality.

    >>> share_ratios(torch.tensor([[0.75, 0.25], [0.0, 0.0]]), torch.tensor([True, False]))
    tensor([3.0000, 0.3333])
    """
    present = torch.ones_like(share, dtype=torch.bool) if present is None else present
    values = share.detach() * present.sum(-1, keepdim=True)  # 1 for an even share
    return _over_others(values.movedim(-1, 0), (present & counted.unsqueeze(-1)).movedim(-1, 0))


def _over_others(values: Tensor, valid: Tensor) -> Tensor:
    """Mean over the valid clips, over the same of the other modalities: `(modalities, ..., clips)` to
    `(modalities, ...)`; 1 for a modality without valid clips, and for ties but for rounding.
    """
    num_clips = valid.sum(-1)
    score = (values * valid).sum(-1) / num_clips.clamp_min(1)  # 0 if there are none
    counted = (num_clips > 0).to(score.dtype)
    num_others = counted.sum(0) - counted
    others = (score.sum(0) - score) / num_others.clamp_min(1)
    compared = (counted > 0) & (num_others > 0)
    info = torch.finfo(score.dtype)
    ties = (score - others).abs() <= TIE * info.eps * others
    return torch.where(compared & ~ties, score / others.clamp_min(info.tiny), 1)


def ogm_coefficients(ratios: Tensor, alpha: float = 0.8) -> Tensor:
    """Factor of the gradient of each modality's encoder, `(modalities, ...)` (Peng et al. 2022, section 3.2).

    1 - tanh(alpha rho) where rho > 1, else 1.

    Args:
        ratios: `score_ratios`, rho, `(modalities, ...)`.
        alpha: Strength.

    >>> ogm_coefficients(torch.tensor([2.0, 0.5])).round(decimals=4)
    tensor([0.0783, 1.0000])
    """
    return torch.where(ratios > 1, 1 - torch.tanh(alpha * ratios), 1)


def mlb_coefficients(ratios: Tensor, alpha: float = 0.8, beta: float = 2.0) -> Tensor:
    """Factor of the gradient of each modality's encoder, `(modalities, ...)`, both ways (Kontras et al. 2024, MLB).

    With x = 1 / rho, the mean score of the others over that of the modality: 1 + (beta - 1) tanh(alpha (x - 1)) where
    x > 1, up to beta for a modality that is behind; else 1 + tanh(alpha (x - 1)), down to 1 - tanh(alpha).

    Args:
        ratios: `score_ratios` or `share_ratios`, rho, `(modalities, ...)`.
        alpha: Strength.
        beta: Largest factor; 2 for the same slope both ways.

    >>> mlb_coefficients(torch.tensor([2.0, 0.5])).round(decimals=4)
    tensor([0.6201, 1.6640])
    """
    x = 1 / ratios.clamp_min(torch.finfo(ratios.dtype).tiny)
    slope = torch.tanh(alpha * (x - 1))
    return 1 + torch.where(x > 1, (beta - 1) * slope, slope)
