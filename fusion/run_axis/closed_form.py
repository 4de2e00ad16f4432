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
from torch.nn import functional

from amr.fusion.run_axis.axes import of_runs

MAX_CLASSES = 10  # with more, g itself is cheaper (docs/benchmarks.md)


def linear_magnitudes(
    z: Sequence[Tensor], weights: Sequence[Tensor], cotangent: Tensor, *, zero_sum: bool = False
) -> Tensor:
    """`(run, batch, modalities)`: the L2 norms of gradient x input, each modality with its own weights.

    Args:
        z: each `(run, batch, dim)`, or `(shared, batch, dim)` where runs in a row share it; constants.
        weights: each `(run, classes, dim)`.
        cotangent: `(run, batch, classes)`.
        zero_sum: the cotangent sums to 0 over the classes. Rows are then taken relative to the last: one class less,
            and what all rows have in common is gone before it is squared.
    """
    shared = len(z[0]) < len(cotangent)  # else the pairwise products serve one batch each, and g is cheaper
    if not shared or cotangent.shape[-1] > MAX_CLASSES:
        return torch.stack([dense_magnitude(x, w, cotangent) for x, w in zip(z, weights, strict=True)], dim=-1)
    return quadratic_magnitudes(z, weights, cotangent, zero_sum=zero_sum)


def dense_magnitude(z: Tensor, weight: Tensor, cotangent: Tensor) -> Tensor:
    """`(run, batch)`: the L2 norm of (cotangent @ weight) * z.

    Args:
        z: `(run, batch, dim)`, or `(shared, batch, dim)` where runs in a row share it; a constant.
        weight: `(run, rows, dim)`.
        cotangent: `(run, batch, rows)`.
    """
    return _Dense.apply(z, weight, cotangent)


def quadratic_magnitudes(
    z: Sequence[Tensor], weights: Sequence[Tensor], cotangent: Tensor, *, zero_sum: bool = False
) -> Tensor:
    """As `linear_magnitudes`, by the quadratic form."""
    return _Quadratic.apply(zero_sum, cotangent, *z, *weights)


def _inverse(norm: Tensor) -> Tensor:
    """1 / norm, and 0 where it is 0: the norm's gradient there is taken as 0."""
    return (1 / norm).masked_fill(norm == 0, 0)


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
    """All modalities at once: their dimensions lie side by side, only the products with z^2 are apart.

    With Q symmetric, || g * z ||^2 = u . (Q u), whose gradient is Q u / norm for u and, for w_k, the sum over l of
    u_k u_l w_l z^2 / norm: the same products of pairs, the other way round.
    """

    @staticmethod
    def forward(ctx: Any, zero_sum: bool, cotangent: Tensor, *inputs: Tensor) -> Tensor:
        squares = [x.square() for x in inputs[: len(inputs) // 2]]  # each (shared, batch, dim)
        weight, u = torch.cat(inputs[len(inputs) // 2 :], dim=-1), cotangent.mT  # (run, rows, dims or batch)
        if zero_sum:
            weight, u = weight[:, :-1] - weight[:, -1:], u[:, :-1]
        u = u.contiguous()
        products = _pairs(weight).split([x.shape[-1] for x in squares], dim=-1)  # (run, pairs, dim)
        q = u.new_empty(len(squares), *products[0].shape[:2], u.shape[-1])  # (modality, run, pairs, batch)
        for p, x, result in zip(products, squares, q, strict=True):
            _of_each(p, x.mT, result)
        q_u = _contracted(q, u)  # (modality, run, rows, batch)
        norm = (q_u * u).sum(2).clamp_min_(0).sqrt_()  # rounding can leave a little below zero
        ctx.zero_sum = zero_sum
        ctx.save_for_backward(weight, u, q_u, norm, *squares)
        return norm.movedim(0, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, u, q_u, norm, *squares = ctx.saved_tensors
        scale = (grad.movedim(-1, 0) * _inverse(norm)).unsqueeze(2)  # (modality, run, 1, batch)
        of_u = (q_u * scale).sum(0)
        scaled = _pairs(u) * scale  # (modality, run, pairs, batch)
        of_pairs = weight.new_empty(*scaled.shape[1:3], weight.shape[-1])
        for s, x, result in zip(scaled, squares, of_pairs.split([x.shape[-1] for x in squares], dim=-1), strict=True):
            _of_each(s, x, result)
        of_weight = _contracted(of_pairs, weight)
        if ctx.zero_sum:
            of_u = functional.pad(of_u, (0, 0, 0, 1))
            of_weight = torch.cat([of_weight, -of_weight.sum(1, keepdim=True)], dim=1)
        of_weights = of_weight.split([x.shape[-1] for x in squares], dim=-1)
        return None, of_u.mT, *[None] * len(squares), *of_weights


def _of_each(x: Tensor, shared: Tensor, result: Tensor) -> None:
    """`(run, rows, in)` times `(shared, in, out)`: one wide product for runs in a row that share theirs."""
    wide, of_wide = (each.unflatten(0, (len(shared), -1)).flatten(1, 2) for each in (x, result))  # views
    torch.bmm(wide, shared, out=of_wide)


def _pairs(x: Tensor) -> Tensor:
    """x_k x_l for k <= l: `(run, rows, n)` to `(run, pairs, n)`, first those with k = l, then l = k + 1, ..."""
    num_rows = x.shape[1]
    result = x.new_empty(len(x), num_rows * (num_rows + 1) // 2, x.shape[2])
    for apart, part in enumerate(_by_distance(result, num_rows)):
        torch.mul(x[:, : num_rows - apart], x[:, apart:], out=part)
    return result


def _contracted(pairs: Tensor, x: Tensor) -> Tensor:
    """sum_l S_kl x_l of a symmetric S given as pairs: `(..., run, pairs, n)` and `(run, rows, n)`."""
    num_rows = x.shape[1]
    diagonal, *others = _by_distance(pairs, num_rows)
    result = diagonal * x  # (..., run, rows, n)
    for apart, part in enumerate(others, start=1):
        result[..., : num_rows - apart, :].addcmul_(part, x[:, apart:])
        result[..., apart:, :].addcmul_(part, x[:, : num_rows - apart])
    return result


def _by_distance(pairs: Tensor, num_rows: int) -> Sequence[Tensor]:
    """The pairs that are 0, 1, ... rows apart, as views."""
    return pairs.split(list(range(num_rows, 0, -1)), dim=-2)
