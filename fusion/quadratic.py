"""The norm of gradient x input behind a linear layer, || (u W) * z ||, with its gradient written by hand.

Two ways to the same number, for cotangents u `(run, batch, classes)`, weights W `(run, classes, dim)` and inputs z:

- dense: g = u W is made, `(run, batch, dim)`, multiplied by z and pooled;
- quadratic, for few classes: with g = sum_k u_k w_k the squared norm is a quadratic form in u,

        || g * z ||^2 = sum_d z_d^2 (sum_k u_k w_kd)^2 = sum_k,l u_k u_l Q_kl,    Q_kl = sum_d z_d^2 w_kd w_ld

  and Q is one product of z^2, which runs that see the same clips share, with the pairwise products of the rows of W.
  Nothing of (run, batch, dim) goes through memory. Pairs grow with the square of the classes, so not for many.

Neither needs a second derivative: a loss on the norm has its gradient after one pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from amr.fusion.stacked import of_runs, shared_bmm

MAX_CLASSES = 10  # with more, g itself is cheaper (docs/benchmarks.md)


def linear_magnitudes(
    z: Sequence[Tensor], weights: Sequence[Tensor], cotangent: Tensor, *, zero_sum: bool = False
) -> Tensor:
    """`(run, batch, modalities)`: the L2 norms of gradient x input, each modality with its own weights.

    Args:
        z: each `(run, batch, dim)`, or `(shared, batch, dim)` where runs in a row share it.
        weights: each `(run, classes, dim)`.
        cotangent: `(run, batch, classes)`.
        zero_sum: the cotangent sums to 0 over the classes. Rows are then taken relative to the last: one class less,
            and what all rows have in common is gone before it is squared.
    """
    shared = len(z[0]) < len(cotangent)  # else the pairwise products serve one batch each, and g is cheaper
    if not shared or cotangent.shape[-1] > MAX_CLASSES:
        return torch.stack([dense_magnitude(x, w, cotangent) for x, w in zip(z, weights, strict=True)], dim=-1)
    if zero_sum:
        cotangent = cotangent[..., :-1]
        weights = [w[:, :-1] - w[:, -1:] for w in weights]
    return torch.stack([quadratic_magnitude(x, w, cotangent) for x, w in zip(z, weights, strict=True)], dim=-1)


def dense_magnitude(z: Tensor, weight: Tensor, cotangent: Tensor) -> Tensor:
    """`(run, batch)`: the L2 norm of (cotangent @ weight) * z.

    Args:
        z: `(run, batch, dim)`, or `(shared, batch, dim)` where runs in a row share it; a constant.
        weight: `(run, rows, dim)`.
        cotangent: `(run, batch, rows)`.
    """
    return _Dense.apply(z, weight, cotangent)


def quadratic_magnitude(z: Tensor, weight: Tensor, cotangent: Tensor) -> Tensor:
    """The same as `dense_magnitude`, by the quadratic form."""
    return _Quadratic.apply(z, weight, cotangent)


def _inverse(norm: Tensor) -> Tensor:
    """1 / norm, and 0 where it is 0: the norm's gradient there is taken as 0."""
    return torch.where(norm > 0, 1 / norm, 0)


class _Dense(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, weight: Tensor, cotangent: Tensor) -> Tensor:
        gradient = torch.bmm(cotangent, weight)  # (run, batch, dim)
        inputs = of_runs(z, len(weight))
        norm = torch.linalg.vector_norm(gradient * inputs, dim=-1)
        ctx.save_for_backward(inputs, weight, cotangent, gradient, norm)
        return norm

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor]:
        inputs, weight, cotangent, gradient, norm = ctx.saved_tensors
        # d norm / d gradient = z^2 * gradient / norm
        outer = gradient * inputs.square() * (grad * _inverse(norm)).unsqueeze(-1)
        return None, torch.bmm(cotangent.mT, outer), torch.bmm(outer, weight.mT)


class _Quadratic(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, weight: Tensor, cotangent: Tensor) -> Tensor:
        row, column, twice, _ = _pairs(weight)
        squares = z.square()
        products = weight[:, row] * weight[:, column]  # (run, pairs, dim)
        q = shared_bmm(squares, products)  # (run, batch, pairs)
        squared = (cotangent[..., row] * cotangent[..., column] * twice * q).sum(-1)
        norm = squared.clamp_min(0).sqrt()  # rounding can leave a little below zero
        ctx.save_for_backward(squares, weight, cotangent, q, norm)
        return norm

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor]:
        squares, weight, cotangent, q, norm = ctx.saved_tensors
        row, column, twice, index = _pairs(weight)
        scale = (grad * _inverse(norm)).unsqueeze(-1)  # (run, batch, 1)
        # d norm / d u_k = sum_l u_l Q_kl / norm
        of_cotangent = (q[..., index] * cotangent.unsqueeze(-2)).sum(-1) * scale
        # d norm / d (w_k w_l) = u_k u_l z^2 / norm, halved on the diagonal
        pairs = cotangent[..., row] * cotangent[..., column] * twice * scale / 2  # (run, batch, pairs)
        wide = pairs.mT.reshape(len(squares), -1, pairs.shape[1])  # (shared, runs of each * pairs, batch)
        of_products = torch.bmm(wide, squares).view(len(weight), -1, weight.shape[-1])  # (run, pairs, dim)
        doubled = torch.eye(len(index), device=weight.device, dtype=weight.dtype) + 1  # w_k w_k holds w_k twice
        of_weight = (of_products[:, index] * doubled[..., None] * weight.unsqueeze(1)).sum(2)
        return None, of_weight, of_cotangent


def _pairs(weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows and columns of the upper triangle, how often each pair counts, and `(classes, classes)` back to the pair."""
    num_rows = weight.shape[1]
    row, column = torch.triu_indices(num_rows, num_rows, device=weight.device)
    twice = torch.where(row == column, 1.0, 2.0).to(weight.dtype)
    index = torch.zeros(num_rows, num_rows, dtype=torch.long, device=weight.device)
    index[row, column] = index[column, row] = torch.arange(len(row), device=weight.device)
    return row, column, twice, index
