"""Uni-modal teachers (Rakib & Bagavathi 2025, G2D): distillation of their logits, and whose turn to learn it is."""

from __future__ import annotations

import torch
from torch import Tensor


def distillation_losses(logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Divergence of each clip's softmax from its teacher's, `(..., classes)` twice to `(...)` (Hinton et al. 2015).

        T^2 KL( softmax(teacher / T), softmax(logits / T) )

    T^2 keeps the size of the gradient about the same for every T. No gradient reaches the teacher.

    Args:
        logits: Logits of the student, such as one modality's part of them.
        teacher_logits: Logits of the teacher.
        temperature: Temperature T.

    >>> same = torch.tensor([[2.0, -1.0]])
    >>> distillation_losses(same, same).tolist()
    [0.0]
    >>> distillation_losses(torch.zeros(1, 2), torch.tensor([[9.0, -9.0]])).round(decimals=3)
    tensor([0.6930])
    """
    log_q, log_p = ((each / temperature).log_softmax(-1) for each in (logits, teacher_logits.detach()))
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(-1)


def learns_in_turn(scores: Tensor, turn: int) -> Tensor:
    """Whether a modality is the one that learns in a turn: the weakest in turn 0, then the next, `(modalities, ...)`.

    Source: G2D's sequential prioritization, for two modalities "only the weaker one learns".

    Args:
        scores: Score of each modality's teacher, `(modalities, ...)`; of equal ones the first is the weaker.
        turn: Number of the turn, from 0.

    >>> learns_in_turn(torch.tensor([0.9, 0.2, 0.5]), turn=0).tolist()
    [False, True, False]
    >>> learns_in_turn(torch.tensor([0.9, 0.2, 0.5]), turn=1).tolist()
    [False, False, True]
    """
    rank = torch.argsort(scores, dim=0, stable=True).argsort(0)
    return rank == turn
