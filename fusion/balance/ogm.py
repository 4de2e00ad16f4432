"""On-the-fly gradient modulation (Peng et al. 2022): how far each modality leads, and the factor of its gradient."""

from __future__ import annotations

import torch
from torch import Tensor


def score_ratios(out: Tensor, target: Tensor, present: Tensor | None = None) -> Tensor:
    """Score of each modality over the mean score of the others, `(modalities, ...)`; more than 1 if it leads.

    The score is the mean probability of the right class over the clips that have the modality. A modality that no clip
    has is not compared: its ratio is 1. No gradient flows through the ratios.

    Args:
        out: Logits of each modality, `(modalities, ..., clips, classes)`, such as `unimodal_logits`.
        target: Classes, `(..., clips)`.
        present: Bool `(..., clips, modalities)`; None if every clip has every modality.

    >>> even, sure = [[0.0, 0.0]], [[99.0, 0.0]]
    >>> score_ratios(torch.tensor([sure, even]), torch.tensor([0]))
    tensor([2.0000, 0.5000])
    """
    p_target = out.detach().softmax(-1).gather(-1, target.expand(len(out), *target.shape).unsqueeze(-1)).squeeze(-1)
    valid = torch.ones_like(p_target, dtype=torch.bool) if present is None else present.movedim(-1, 0)
    num_clips = valid.sum(-1)
    score = (p_target * valid).sum(-1) / num_clips.clamp_min(1)  # 0 if no clip has the modality
    counted = (num_clips > 0).to(score.dtype)
    num_others = counted.sum(0) - counted
    others = (score.sum(0) - score) / num_others.clamp_min(1)
    compared = (counted > 0) & (num_others > 0)
    return torch.where(compared, score / others.clamp_min(torch.finfo(score.dtype).tiny), 1)


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
