"""On-the-fly prediction modulation (Wei et al. 2024): what leads is dropped, more often the more it leads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def opm_rates(ratios: Tensor, q_base: float = 0.5, strength: float = 0.5) -> Tensor:
    """Probability with which a clip drops each modality, `(modalities, ...)`.

    q_m = q_base (1 + strength tanh(rho_m - 1)), at most 1, where rho_m > 1, else 0.

    Args:
        ratios: `score_ratios`, rho, `(modalities, ...)`.
        q_base: Probability for a modality that leads by little.
        strength: Share by which it grows with the lead; lambda of the source.

    >>> opm_rates(torch.tensor([2.0, 0.5])).round(decimals=4)
    tensor([0.6904, 0.0000])
    """
    rates = q_base * (1 + strength * torch.tanh(ratios - 1))
    return torch.where(ratios > 1, rates.clamp(0, 1), 0)


def opm_keep(rates: Tensor, draws: Tensor, present: Tensor) -> Tensor:
    """Modalities that each clip keeps, bool `(..., clips, modalities)`; a clip may keep none.

    Args:
        rates: Probability with which a clip drops each modality, `(modalities, ...)`.
        draws: Uniform numbers in [0, 1), `(..., clips, modalities)`.
        present: Bool `(..., clips, modalities)`.

    >>> draws, present = torch.tensor([[0.1, 0.1], [0.9, 0.9]]), torch.ones(2, 2, dtype=torch.bool)
    >>> opm_keep(torch.tensor([0.7, 0.0]), draws, present)
    tensor([[False,  True],
            [ True,  True]])
    """
    return present & (draws >= rates.movedim(0, -1).unsqueeze(-2))


def opm_scale(rates: Tensor, dims: Sequence[int]) -> Tensor:
    """Factor of what is kept, which leaves its expected size as it was: 1 / (1 - theta), `(...)`.

    theta = sum_m d_m q_m / sum_m d_m is the part of all dimensions that is dropped, on average.

    Args:
        rates: Probability with which a clip drops each modality, `(modalities, ...)`; not 1 for all.
        dims: Size of each modality's encoding.

    >>> opm_scale(torch.tensor([0.5, 0.0]), [30, 10]).round(decimals=4)
    tensor(1.6000)
    """
    dropped = [rate * (dim / sum(dims)) for rate, dim in zip(rates.unbind(0), dims, strict=True)]
    return 1 / (1 - torch.stack(dropped).sum(0))
