"""The norm of gradient x input of a linear layer, without a tensor of (run, batch, dim).

With g = sum_k u_k w_k, the squared norm of g * z is a quadratic form in the cotangent u:

    || g * z ||^2 = sum_d z_d^2 (sum_k u_k w_kd)^2 = sum_k,l u_k u_l Q_kl,    Q_kl = sum_d z_d^2 w_kd w_ld

Q is one product of z^2, which runs that see the same clips share, with the pairwise products of the rows of w. For few
classes that is far less to move through memory than g itself; for many, pairs grow with their square.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from amr.fusion.stacked import shared_bmm

MAX_CLASSES = 10  # pairs grow with the square of the classes; with more, g itself is cheaper (docs/benchmarks.md)


def takes_quadratic(num_classes: int) -> bool:
    """Whether the quadratic form is the cheaper one."""
    return num_classes <= MAX_CLASSES


def linear_magnitudes(z: Sequence[Tensor], weights: Sequence[Tensor], cotangent: Tensor) -> Tensor:
    """`(run, batch, modalities)`: the norms of gradient x input, each modality with its own weights.

    Args:
        z: each `(run, batch, dim)`, or `(shared, batch, dim)` where runs in a row share it.
        weights: each `(run, classes, dim)`.
        cotangent: `(run, batch, classes)`.
    """
    return torch.stack([quadratic_magnitude(x, w, cotangent) for x, w in zip(z, weights, strict=True)], dim=-1)


def quadratic_magnitude(z: Tensor, weight: Tensor, cotangent: Tensor) -> Tensor:
    """`(run, batch)`: the L2 norm of (cotangent @ weight) * z.

    Args:
        z: `(run, batch, dim)`, or `(shared, batch, dim)` where runs in a row share it.
        weight: `(run, classes, dim)`.
        cotangent: `(run, batch, classes)`.
    """
    row, column = torch.triu_indices(weight.shape[1], weight.shape[1], device=weight.device)
    products = weight[:, row] * weight[:, column]  # (run, pairs, dim)
    q = shared_bmm(z.square(), products)  # (run, batch, pairs)
    twice = torch.where(row == column, 1.0, 2.0).to(q.dtype)
    squared = (cotangent[..., row] * cotangent[..., column] * twice * q).sum(-1)
    # rounding can leave a little below zero; the root has no gradient at zero
    return torch.where(squared > 0, squared, 1).sqrt() * (squared > 0)
