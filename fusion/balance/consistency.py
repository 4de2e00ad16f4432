"""Compare the predictions from different modalities, or from fewer of them (CML, LFM, MCR)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional

from amr.fusion.attribution.base import HeadFunction
from amr.fusion.attribution.permutation import of_partners, partners_with
from amr.fusion.balance.outputs import all_present
from amr.fusion.tasks import Task
from amr.fusion.tasks.multiclass import MULTICLASS


def keep_modalities(z: Mapping[str, Tensor], kept: Tensor) -> dict[str, Tensor]:
    """Set the modalities that a clip does not keep to 0; a head also needs `kept` as its `present`.

    Args:
        z: Modality to its encoding, `(..., clips, dim)`, or with steps `(..., clips, steps, dim)`.
        kept: Bool `(..., clips, modalities)`.

    >>> z = {"audio": torch.ones(2, 1), "video": torch.ones(2, 1)}
    >>> keep_modalities(z, torch.tensor([[True, False], [True, True]]))["video"].tolist()
    [[0.0], [1.0]]
    """
    masks = kept.unbind(-1)
    return {
        m: value * mask.view(*mask.shape, *[1] * (value.ndim - mask.ndim))
        for (m, value), mask in zip(z.items(), masks, strict=True)
    }


def nested_subsets(scores: Tensor) -> Tensor:
    """Chain of nested subsets of the modalities, from one to all, bool `(subsets, ..., modalities)`.

    Args:
        scores: Numbers `(..., modalities)`; modalities join the chain from the largest to the smallest.

    >>> nested_subsets(torch.tensor([0.2, 0.9, 0.5])).int()
    tensor([[0, 1, 0],
            [0, 1, 1],
            [1, 1, 1]], dtype=torch.int32)
    """
    rank = scores.argsort(-1, descending=True).argsort(-1)
    return torch.stack([rank <= size for size in range(scores.shape[-1])])


def confidence_drops(logits: Tensor, target: Tensor, counted: Tensor | None = None) -> Tensor:
    """Confidence that each clip loses where it gains modalities, summed along a chain of subsets, `(..., clips)`.

        sum_k relu( max softmax f(S_k) - max softmax f(S_k+1) )        S_1 < S_2 < ...

    A link is left out if S_k is right and S_k+1 is wrong: less confidence is then as it should be (Ma et al. 2023,
    Calibrating Multimodal Learning).

    Args:
        logits: Logits of each subset of the chain, `(subsets, ..., clips, classes)`, smallest subset first.
        target: Classes `(..., clips)`.
        counted: Bool `(subsets, ..., clips)`: subsets of which the clip has a modality; None if all count.

    >>> alone, both = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    >>> confidence_drops(torch.stack([alone, both]), torch.tensor([1])).round(decimals=3)
    tensor([0.3810])
    """
    confidence, decided = logits.softmax(-1).max(-1)
    right = decided == target
    drop = (confidence[:-1] - confidence[1:]).relu().masked_fill(right[:-1] & ~right[1:], 0)
    return (drop if counted is None else drop.masked_fill(~counted[:-1], 0)).sum(0)


def disagreement(out: Tensor, present: Tensor | None = None, task: Task = MULTICLASS) -> Tensor:
    """Divergence between the predictions of every two modalities, summed over the pairs, `(...)`; 0 for one modality.

        sum over m < n of the mean of JS(p_m, p_n) over the clips that have both        p_m = softmax(out_m)

    Jensen-Shannon divergence in nats for classes; for other tasks, that of the task (Yang et al. 2024, LFM).

    Args:
        out: Logits of each modality, `(modalities, ..., clips, classes)`.
        present: Bool `(..., clips, modalities)`; None if every clip has every modality.
        task: What is predicted.

    >>> disagreement(torch.tensor([[[50.0, 0.0]], [[0.0, 50.0]]])).round(decimals=4)  # log 2
    tensor(0.6931)
    """
    pairs = list(combinations(range(len(out)), 2))
    if not pairs:
        return out.new_zeros(out.shape[1:-2])
    first, second = (torch.stack([out[pair[i]] for pair in pairs]) for i in (0, 1))
    divergence = task.divergence(first, second)  # (pairs, ..., clips)
    if present is None:
        return divergence.mean(-1).sum(0)
    both = torch.stack([present[..., m] & present[..., n] for m, n in pairs])
    return (divergence.masked_fill(~both, 0).sum(-1) / both.sum(-1).clamp_min(1)).sum(0)


def permutation_divergence(
    head: HeadFunction,
    z: Mapping[str, Tensor],
    partners: Tensor,
    present: Tensor | None = None,
    task: Task = MULTICLASS,
    others: float = 1.0,
) -> Tensor:
    """Mean divergence of the predictions if a modality comes from another clip, `(modalities, ...)`.

        MIPD_m = mean_i JS( softmax f(z_i), softmax f(z_i with z^m of clip pi(i)) )

    Unlike the attribution `permutation`, its gradient reaches z (Kontras et al. 2025, MCR). The mean is over the clips
    that have m and whose partner is another clip that does; 0 if there are none.

    Args:
        head: Function of z and present that returns logits, `(..., clips, classes)`.
        z: Modality to its encoding, `(..., clips, dim)`.
        partners: Clip numbers `(..., clips)`: pi.
        present: Bool `(..., clips, modalities)`; None if every clip has every modality.
        task: What is predicted.
        others: Factor of the gradient of MIPD_m in the z of modalities other than m.

    >>> def head(z, present):
    ...     return z["audio"] * torch.tensor([50.0, -50.0])
    >>> z = {"audio": torch.tensor([[1.0], [-1.0]]), "video": torch.tensor([[1.0], [-1.0]])}
    >>> permutation_divergence(head, z, torch.tensor([1, 0])).round(decimals=4)
    tensor([0.6931, 0.0000])
    """
    present = all_present(z) if present is None else present
    result = []
    for i, m in enumerate(z):
        steered = {n: value if n == m or others == 1 else _scaled_gradient(value, others) for n, value in z.items()}
        own = partners_with(present[..., i], partners)
        divergence = task.divergence(
            head(steered, present), head({**steered, m: of_partners(steered[m], own)}, present)
        )
        moved = own != torch.arange(own.shape[-1], device=own.device)
        result.append(divergence.masked_fill(~moved, 0).sum(-1) / moved.sum(-1).clamp_min(1))
    return torch.stack(result)


def _scaled_gradient(value: Tensor, factor: float) -> Tensor:
    """The same values, with a gradient times the factor."""
    return factor * value + (1 - factor) * value.detach()


def class_contrast(
    first: Tensor, second: Tensor, target: Tensor, valid: Tensor | None = None, temperature: float = 0.5
) -> Tensor:
    """Contrastive loss between encodings of two modalities, clips of one class positive, `(...)`.

        -mean over pairs of one class of log softmax_j( cos(u_i, v_j) / temperature ), in both directions

    NT-Xent with labels (Khosla et al. 2020; Kontras et al. 2025, MCR): the mean over the positives of each clip, then
    over clips, then over the two directions.

    Args:
        first: Encodings of one modality, `(..., clips, dim)`.
        second: Encodings of the other, of the same shape.
        target: Classes `(..., clips)`.
        valid: Bool `(..., clips)`: the clips that have both; None for all. 0 if there are none. Clips with an encoding
            of 0, which has no direction, are left out.
        temperature: Temperature of the softmax.

    >>> z = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> class_contrast(z, z, torch.tensor([0, 1])).round(decimals=4)  # log(1 + exp(-2))
    tensor(0.1269)
    """
    directed = (first != 0).any(-1) & (second != 0).any(-1)
    valid = directed if valid is None else valid & directed
    similar = functional.normalize(first, dim=-1) @ functional.normalize(second, dim=-1).mT / temperature
    both = valid.unsqueeze(-1) & valid.unsqueeze(-2)
    positive = (target.unsqueeze(-1) == target.unsqueeze(-2)) & both
    directions = []
    for logits, pairs in ((similar, positive), (similar.mT, positive.mT)):
        log_p = logits.masked_fill(~valid.unsqueeze(-2), torch.finfo(logits.dtype).min).log_softmax(-1)
        of_clip = -log_p.masked_fill(~pairs, 0).sum(-1) / pairs.sum(-1).clamp_min(1)
        directions.append(of_clip.sum(-1) / valid.sum(-1).clamp_min(1))
    return (directions[0] + directions[1]) / 2
