"""Prototypical modality rebalance (Fan et al. 2023, PMR): class means as classifiers, and who is behind by how much."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def class_sums(z: Tensor, target: Tensor, valid: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Sum of z over the valid clips of each class, `(..., classes, dim)`, and their number, `(..., classes)`.

    Args:
        z: Encodings, `(..., clips, dim)`.
        target: Classes, `(..., clips)`.
        valid: Bool `(..., clips)`: clips that count, such as those that have the modality.
        num_classes: Number of classes.

    >>> z, target = torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 1])
    >>> sums, counts = class_sums(z, target, torch.ones(3, dtype=torch.bool), num_classes=3)
    >>> sums.flatten().tolist(), counts.tolist()
    ([4.0, 5.0, 0.0], [2.0, 1.0, 0.0])
    """
    member = functional.one_hot(target, num_classes).to(z.dtype) * valid.unsqueeze(-1)  # (..., clips, classes)
    return member.mT @ z, member.sum(-2)


def prototype_logits(z: Tensor, prototypes: Tensor, known: Tensor) -> Tensor:
    """Minus the distance of each clip to each class's prototype, `(..., clips, classes)`; -inf for unknown classes.

    The distance is Euclidean, not squared, as in the authors' code.

    Args:
        z: Encodings, `(..., clips, dim)`.
        prototypes: Mean encoding of each class, `(..., classes, dim)`.
        known: Bool `(..., classes)`: classes that have a prototype. If none has, all logits are 0.

    >>> z, prototypes = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.0, 0.0]])
    >>> prototype_logits(z, prototypes, torch.tensor([True, True, False])).tolist()
    [[-5.0, -1.0, -inf]]
    """
    distance = torch.linalg.vector_norm(z.unsqueeze(-2) - prototypes.unsqueeze(-3), dim=-1)
    none = ~known.any(-1, keepdim=True)
    return -distance.masked_fill(none.unsqueeze(-1), 0).masked_fill((~known & ~none).unsqueeze(-2), torch.inf)


def pmr_weights(scores: Tensor, counted: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Weights of the prototypical cross-entropy of what is behind, and of the entropy of what leads, by modality.

        behind_m = clip( mean_{j != m} s_j / s_m - 1, 0, 1 ),    leads_m = clip( s_m / mean_{j != m} s_j - 1, 0, 1 )

    For two modalities, and rho = s_1 / s_2, they are the paper's beta = clip(1 / rho - 1, 0, 1) and gamma =
    clip(rho - 1, 0, 1), and the same two swapped.

    Args:
        scores: Mean probability s_m that the prototypes of m give to the right class, `(modalities, ...)`.
        counted: Bool, shaped as the scores: modalities that are compared; both weights are 0 for the others. None for
            all.

    >>> behind, leads = pmr_weights(torch.tensor([0.6, 0.4]))
    >>> behind.round(decimals=3), leads.round(decimals=3)
    (tensor([0.0000, 0.5000]), tensor([0.5000, 0.0000]))
    """
    counted = torch.ones_like(scores, dtype=torch.bool) if counted is None else counted
    num_others = counted.sum(0) - counted.to(torch.long)
    others = ((scores * counted).sum(0) - scores * counted) / num_others.clamp_min(1)
    compared, smallest = counted & (num_others > 0), torch.finfo(scores.dtype).tiny
    ratios = others / scores.clamp_min(smallest), scores / others.clamp_min(smallest)
    behind, leads = (torch.where(compared, (ratio - 1).clamp(0, 1), 0) for ratio in ratios)
    return behind, leads
