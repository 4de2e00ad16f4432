"""What each modality contributes to the answer on a clip, and which clips and modalities should be trained more."""

from __future__ import annotations

import torch
from torch import Tensor

from amr.common.registry import unknown
from amr.fusion.attribution.shapley import shapley_split, subsets

EPS = 1e-4  # Shapley values of answers are multiples of 1 / M!, up to rounding


def cooperation_values(logits: Tensor, target: Tensor, present: Tensor | None = None) -> Tensor:
    """Value of each modality in the answer on each clip, `(modalities, ..., clips)`; 1 each is full cooperation.

        v_i(S) = |S| if the answer from the modalities S alone is right, else 0;  phi_i: its Shapley values

    (Wei et al. 2024, sample-level modality valuation). Modalities that a clip lacks are not counted in |S|, and their
    value is 0.

    Args:
        logits: Logits of every subset, `(subsets, ..., clips, classes)`, in the order of `subsets`.
        target: Classes `(..., clips)`.
        present: Bool `(..., clips, modalities)`; None if every clip has every modality.

    Of two modalities, the first alone is right, and so are both:

    >>> right, wrong = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> cooperation_values(torch.stack([wrong, wrong, right, right]), torch.tensor([0])).tolist()
    [[1.5], [0.5]]
    """
    in_subset = torch.tensor(subsets(len(logits).bit_length() - 1), device=logits.device).to(logits.dtype)
    if present is None:
        present = torch.ones(*target.shape, in_subset.shape[-1], dtype=torch.bool, device=logits.device)
    size = torch.tensordot(in_subset, present.to(logits.dtype), dims=([-1], [-1]))  # (subsets, ..., clips)
    return shapley_split(size * (logits.argmax(-1) == target).to(logits.dtype))


def num_copies(values: Tensor) -> Tensor:
    """Number of times that a clip is trained again with one modality only, by the value of this modality.

        0 from 1 on, 1 from .4 on, 2 from -.1 on, 3 below

    Args:
        values: `cooperation_values`, of any shape.

    >>> num_copies(torch.tensor([1.5, 1.0, 0.5, 0.0, -0.5])).tolist()
    [0.0, 0.0, 1.0, 2.0, 3.0]
    """
    return torch.stack([values < bound - EPS for bound in (1.0, 0.4, -0.1)]).sum(0).to(values.dtype)


def share_without(values: Tensor, strength: float = 1.0, growth: str = "linear") -> Tensor:
    """Share of the clips to train again without a modality, `(modalities, ...)`; 0 but for the one of most value.

        P = strength g( 2/3 gap ),    gap: mean value of the strongest modality minus that of the others

    g is the identity, tanh, or the power 1.5; P is at most 1.

    Of several with the same greatest value, each has its share. The source's `tanh` has the factor inside of it.

    Args:
        values: Mean value of each modality over the clips that have it, `(modalities, ...)`. One that is NaN is not
            compared, and its share is 0. Where only one is known, all shares are 0.
        strength: Factor of the share.
        growth: Name of g: linear, tanh or power.

    >>> share_without(torch.tensor([1.2, 0.6])).round(decimals=4)
    tensor([0.4000, 0.0000])
    """
    known = ~values.isnan()
    values = values.where(known, 0)
    num_others = known.sum(0) - known.long()
    gap = values - (values.sum(0) - values) / num_others.clamp_min(1)
    scaled = (2 / 3 * gap).clamp_min(0)
    shares = {"linear": scaled, "tanh": scaled.tanh(), "power": scaled**1.5}
    if growth not in shares:
        raise unknown("growth", growth, shares)
    share = shares[growth]
    leads = known & (num_others > 0) & (values == values.masked_fill(~known, -torch.inf).amax(0))
    return (strength * share).clamp_max(1) * leads


def least_sure_modality(out: Tensor, present: Tensor | None = None) -> Tensor:
    """Modality of each clip whose prediction has the highest entropy, as its number, `(..., clips)`.

    It is the one with the least KL(p_m || uniform) (Ma et al. 2025, data remixing).

    Args:
        out: Logits of each modality, `(modalities, ..., clips, classes)`.
        present: Bool `(..., clips, modalities)`: only modalities that a clip has are compared.

    >>> least_sure_modality(torch.tensor([[[4.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 4.0]]]))
    tensor([1, 0])
    """
    log_p = out.log_softmax(-1)
    from_uniform = (log_p.exp() * log_p).sum(-1)  # KL(p || uniform) but for log C
    if present is not None:
        from_uniform = from_uniform.masked_fill(~present.movedim(-1, 0), torch.inf)
    return from_uniform.argmin(0)
