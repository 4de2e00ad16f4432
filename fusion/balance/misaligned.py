"""Clips of which one modality comes from a clip of another class, and soft labels for them (Hwang et al. 2025, MIDAS).

One modality of a clip is swapped at a time, so that M modalities make M misaligned clips of each clip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from amr.fusion.attribution.permutation import of_partners
from amr.fusion.run_axis.axes import at_target


@dataclass(frozen=True)
class Misaligned:
    """Misaligned clips, one kind for each modality that is swapped; without gradients.

    Args:
        target: Class that each modality shows, `(swapped, modalities, ..., clips)`.
        label: Part of each modality in the soft label, `(swapped, modalities, ..., clips)`: its confidence in the class
            that it shows, over the sum of all. 0 for modalities that the clip lacks.
        valid: Bool `(swapped, ..., clips)`: whether both clips have the swapped modality, the clip has another one, and
            their classes differ.
        present: Bool `(modalities, ..., clips)`: modalities that the clip has.
    """

    target: Tensor
    label: Tensor
    valid: Tensor
    present: Tensor


def misalign(out: Tensor, target: Tensor, partners: Tensor, present: Tensor) -> Misaligned:
    """Soft labels of the clips that are misaligned with their partners.

        label_m = p_m[y^m] / sum_n p_n[y^n],    y^m: the class of the clip that m is from,  p_m = softmax(out_m)

    Args:
        out: Logits of each modality, `(modalities, ..., clips, classes)`.
        target: Classes `(..., clips)`.
        partners: Clip numbers `(..., clips)`.
        present: Bool `(..., clips, modalities)`.

    >>> out = torch.tensor([[[0.9, 0.1], [0.5, 0.5]], [[0.5, 0.5], [0.7, 0.3]]]).log()
    >>> mixed = misalign(out, torch.tensor([0, 1]), torch.tensor([1, 0]), torch.ones(2, 2, dtype=torch.bool))
    >>> mixed.label[1, :, 0]  # first modality of clip 0, class 0; second of clip 1, class 1: .9 and .3
    tensor([0.7500, 0.2500])
    """
    size = len(out)
    own = at_target(out.detach().softmax(-1), target)
    theirs = of_partners(own.movedim(0, -1), partners).movedim(-1, 0)
    swapped = torch.eye(size, dtype=torch.bool, device=out.device).view(size, size, *[1] * target.ndim)
    has = present.movedim(-1, 0)  # (modalities, ..., clips)
    confidence = torch.where(swapped, theirs, own) * has
    label = confidence / confidence.sum(1, keepdim=True).clamp_min(torch.finfo(out.dtype).tiny)
    other_target = target.gather(-1, partners)
    both = has & of_partners(present, partners).movedim(-1, 0)
    valid = both & (has.sum(0) > 1) & (target != other_target)
    return Misaligned(torch.where(swapped, other_target, target).expand_as(label), label, valid, has)


def misaligned_losses(logits: Tensor, mixed: Misaligned, weak: Tensor) -> Tensor:
    """Loss of each misaligned clip, `(swapped, ..., clips)`: -sum_m weak_m label_m log p[y^m].

    Args:
        logits: Joint logits of the misaligned clips, `(swapped, ..., clips, classes)`.
        mixed: Their labels.
        weak: Weight of each modality, `(modalities, ...)`.

    >>> target, label = torch.tensor([[[0], [1]]]), torch.tensor([[[0.75], [0.25]]])
    >>> mixed = Misaligned(target, label, valid=torch.tensor([[True]]), present=torch.tensor([[True], [True]]))
    >>> misaligned_losses(torch.zeros(1, 1, 2), mixed, torch.tensor([1.0, 2.0])).round(decimals=4)  # 1.25 log 2
    tensor([[0.8664]])
    """
    log_p = of_targets(logits.log_softmax(-1), mixed.target)
    return -(weak.unsqueeze(-1) * mixed.label * log_p).sum(1)


def weak_modality_step(logits: Tensor, mixed: Misaligned) -> Tensor:
    """Change of the weight of the least confident modality, before a step size; 0 for the others, `(modalities, ...)`.

        m'  = arg min over m of the mean label_m
        step_m' = mean of label_m' - p[y^m'] / sum_n p[y^n]

    Means are over the misaligned clips that have the modality; one that none has is not compared. The step is positive
    where the joint prediction gives the modality less than its label does.

    Args:
        logits: Joint logits of the misaligned clips, `(swapped, ..., clips, classes)`.
        mixed: Their labels.

    The label of the second modality is .25, and the model gives it .1:

    >>> target, label = torch.tensor([[[0], [1]]]), torch.tensor([[[0.75], [0.25]]])
    >>> mixed = Misaligned(target, label, valid=torch.tensor([[True]]), present=torch.tensor([[True], [True]]))
    >>> weak_modality_step(torch.tensor([[[0.9, 0.1]]]).log(), mixed).round(decimals=4)
    tensor([0.0000, 0.1500])
    """
    p = of_targets(logits.detach().softmax(-1), mixed.target) * mixed.present
    given = p / p.sum(1, keepdim=True).clamp_min(torch.finfo(p.dtype).tiny)
    counted = mixed.valid.unsqueeze(1) & mixed.present  # (swapped, modalities, ..., clips)
    number = counted.sum((0, -1))  # (modalities, ...)
    label, given = (each.where(counted, 0).sum((0, -1)) / number.clamp_min(1) for each in (mixed.label, given))
    compared = label.masked_fill(number == 0, torch.inf)
    least = (compared == compared.amin(0)) & (number > 0)
    first = least & (least.cumsum(0) == 1)
    return (label - given).masked_fill(~first, 0)


def of_targets(values: Tensor, target: Tensor) -> Tensor:
    """Values of the class that each modality shows: `(swapped, ..., clips, classes)` to the shape of `target`."""
    size = target.shape[1]
    return at_target(values.unsqueeze(1).expand(-1, size, *values.shape[1:]), target)


def similarity(z: Mapping[str, Tensor], partners: Tensor) -> Tensor:
    """Cosine between the encodings of a clip and of its partner, `(modalities, ..., clips)`.

    It is at least 0, and a constant for gradients.

    Args:
        z: Modality to its encoding, `(..., clips, dim)`.
        partners: Clip numbers `(..., clips)`.

    >>> similarity({"audio": torch.tensor([[1.0, 0.0], [1.0, 1.0]])}, torch.tensor([1, 0])).round(decimals=4)
    tensor([[0.7071, 0.7071]])
    """
    return torch.stack(
        [
            functional.cosine_similarity(value, of_partners(value, partners), dim=-1).clamp_min(0)
            for value in (each.detach() for each in z.values())
        ]
    )
