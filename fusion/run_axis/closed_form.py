"""The norm of gradient x input of a linear layer, || (u W) * z ||, with an explicit gradient.

Two ways to compute it, for cotangents u `(run, batch, classes)`, weights W `(run, classes, dim)` and inputs z:

- dense: compute g = u W, `(run, batch, dim)`, multiply by z and take the norm;
- quadratic, for few classes: with g = sum_k u_k w_k the squared norm is a quadratic form in u,

        || g * z ||^2 = sum_d z_d^2 (sum_k u_k w_kd)^2 = sum_k,l u_k u_l Q_kl,    Q_kl = sum_d z_d^2 w_kd w_ld

  and Q is one matrix product: z^2, shared by runs that see the same clips, times the pairwise products of the rows of
  W. No (run, batch, dim) tensor is needed. The number of pairs grows with the square of the number of classes.

Neither needs a second derivative: a loss on the norm has its gradient after one backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from amr.fusion.run_axis.axes import of_runs

MAX_CLASSES = 10  # with more, g itself is cheaper (docs/benchmarks.md)


def linear_magnitudes(
    z: Sequence[Tensor], weights: Sequence[Tensor], cotangent: Tensor, *, zero_sum: bool = False
) -> Tensor:
    """L2 norms of gradient x input, `(run, batch, modalities)`.

    Args:
        z: Inputs, one per modality, each `(run, batch, dim)`, or `(shared, batch, dim)` if adjacent runs share it;
            constants.
        weights: Weights, one per modality, each `(run, classes, dim)`.
        cotangent: Cotangent `(run, batch, classes)`.
        zero_sum: Whether the cotangent sums to 0 over the classes. If so, one row of W is subtracted from the others:
            there is one class fewer, and what all rows have in common cancels before it is squared.
    """
    shared = len(z[0]) < len(cotangent)  # if not, each pairwise product serves one batch only, and g is cheaper
    if not shared or cotangent.shape[-1] > MAX_CLASSES:
        return torch.stack([dense_magnitude(x, w, cotangent) for x, w in zip(z, weights, strict=True)], dim=-1)
    return quadratic_magnitudes(z, weights, cotangent, zero_sum=zero_sum)


def dense_magnitude(z: Tensor, weight: Tensor, cotangent: Tensor) -> Tensor:
    """L2 norm of (cotangent @ weight) * z, `(run, batch)`.

    Args:
        z: Input `(run, batch, dim)`, or `(shared, batch, dim)` if adjacent runs share it; a constant.
        weight: Weight `(run, rows, dim)`.
        cotangent: Cotangent `(run, batch, rows)`.
    """
    return _Dense.apply(z, weight, cotangent)


def quadratic_magnitudes(
    z: Sequence[Tensor], weights: Sequence[Tensor], cotangent: Tensor, *, zero_sum: bool = False
) -> Tensor:
    """Same as `linear_magnitudes`, always by the quadratic form."""
    return _Quadratic.apply(zero_sum, cotangent, *z, *weights)


def _inverse(norm: Tensor) -> Tensor:
    """1 / norm, or 0 if the norm is 0: its gradient there is defined as 0."""
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
    """All modalities at once: their dimensions are concatenated; only the products with z^2 are separate.

    With Q symmetric, norm^2 = || g * z ||^2 = u . (Q u). The gradient of the norm is Q u / norm with respect to u, and
    sum_l u_k u_l w_l z^2 / norm with respect to w_k, which is the same product with pairs of u instead of w.
    """

    @staticmethod
    def forward(ctx: Any, zero_sum: bool, cotangent: Tensor, *inputs: Tensor) -> Tensor:
        squares = [x.square() for x in inputs[: len(inputs) // 2]]  # each (shared, batch, dim)
        weights = inputs[len(inputs) // 2 :]
        weight, u = torch.cat(weights, dim=-1), cotangent.mT  # (run, rows, dims or batch)
        reference = None
        if zero_sum:
            reference = _central_row(weights)
            weight, u = _without_row(weight, reference, subtract=True), _without_row(u, reference)
        u = u.contiguous()
        products = _pairs(weight).split([x.shape[-1] for x in squares], dim=-1)  # (run, pairs, dim)
        q = u.new_empty(len(squares), *products[0].shape[:2], u.shape[-1])  # (modality, run, pairs, batch)
        for p, x, result in zip(products, squares, q, strict=True):
            _bmm_shared(p, x.mT, result)
        q_u = _contract(q, u)  # (modality, run, rows, batch)
        norm = (q_u * u).sum(2).clamp_min_(0).sqrt_()  # rounding can make it slightly negative
        ctx.reference = reference
        ctx.save_for_backward(weight, u, q_u, norm, *squares)
        return norm.movedim(0, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, u, q_u, norm, *squares = ctx.saved_tensors
        scale = (grad.movedim(-1, 0) * _inverse(norm)).unsqueeze(2)  # (modality, run, 1, batch)
        grad_u = (q_u * scale).sum(0)
        scaled = _pairs(u) * scale  # (modality, run, pairs, batch)
        products = weight.new_empty(*scaled.shape[1:3], weight.shape[-1])  # (run, pairs, dims)
        for s, x, result in zip(scaled, squares, products.split([x.shape[-1] for x in squares], dim=-1), strict=True):
            _bmm_shared(s, x, result)
        grad_weight = _contract(products, weight)
        if ctx.reference is not None:
            grad_u = _with_row(grad_u, ctx.reference, torch.zeros_like(grad_u[:, 0]))
            grad_weight = _with_row(grad_weight, ctx.reference, -grad_weight.sum(1))
        grad_weights = grad_weight.split([x.shape[-1] for x in squares], dim=-1)
        return None, grad_u.mT, *[None] * len(squares), *grad_weights


def _central_row(weights: Sequence[Tensor]) -> Tensor:
    """Row that is nearest to the mean row, `(run,)`; every modality counts alike.

    Relative to a row that dwarfs the others, all differences would be large. Where its cotangent is small they cancel,
    but only after they were squared and rounded. Of two rows either will do.
    """
    if weights[0].shape[1] == 2:
        return torch.ones(len(weights[0]), dtype=torch.long, device=weights[0].device)
    distances = [torch.linalg.vector_norm(w - w.mean(1, keepdim=True), dim=-1) for w in weights]  # (run, rows)
    relative = [d / d.sum(-1, keepdim=True) for d in distances]
    return torch.stack(relative).sum(0).nan_to_num(0).argmin(-1)


def _without_row(x: Tensor, row: Tensor, *, subtract: bool = False) -> Tensor:
    """`(run, rows, n)` without one row of each run: the last row takes its place. Optionally subtract it first."""
    runs, is_last = torch.arange(len(x), device=x.device), row == x.shape[1] - 1
    place = row.masked_fill(is_last, 0)
    moved = torch.where(is_last.unsqueeze(-1), x[:, 0], x[:, -1])  # the last row needs no place if it is left out
    if subtract:
        removed = x[runs, row]
        result, moved = x[:, :-1] - removed.unsqueeze(1), moved - removed
    else:
        result = x[:, :-1].clone(memory_format=torch.contiguous_format)
    result[runs, place] = moved
    return result


def _with_row(x: Tensor, row: Tensor, values: Tensor) -> Tensor:
    """Undo `_without_row`: `(run, rows - 1, n)` to `(run, rows, n)` with `values`, `(run, n)`, in that row."""
    runs = torch.arange(len(x), device=x.device)
    x = torch.cat([x, values.unsqueeze(1)], dim=1)
    x[:, -1] = x[runs, row]  # if the row is the last one, these are its values already
    x[runs, row] = values
    return x


def _bmm_shared(x: Tensor, shared: Tensor, result: Tensor) -> None:
    """Write `(run, rows, in)` times `(shared, in, out)` to `result`: one wide product for runs that share a factor."""
    wide, wide_result = (each.unflatten(0, (len(shared), -1)).flatten(1, 2) for each in (x, result))  # views
    torch.bmm(wide, shared, out=wide_result)


def _pairs(x: Tensor) -> Tensor:
    """Products x_k x_l for k <= l: `(run, rows, n)` to `(run, pairs, n)`, first l = k, then l = k + 1, ..."""
    num_rows = x.shape[1]
    result = x.new_empty(len(x), num_rows * (num_rows + 1) // 2, x.shape[2])
    for distance, pairs in enumerate(_by_distance(result, num_rows)):
        torch.mul(x[:, : num_rows - distance], x[:, distance:], out=pairs)
    return result


def _contract(symmetric: Tensor, x: Tensor) -> Tensor:
    """sum_l S_kl x_l for a symmetric S, given as pairs: `(..., run, pairs, n)` and `(run, rows, n)`."""
    num_rows = x.shape[1]
    diagonal, *others = _by_distance(symmetric, num_rows)
    result = diagonal * x  # (..., run, rows, n)
    for distance, pairs in enumerate(others, start=1):
        result[..., : num_rows - distance, :].addcmul_(pairs, x[:, distance:])
        result[..., distance:, :].addcmul_(pairs, x[:, : num_rows - distance])
    return result


def _by_distance(pairs: Tensor, num_rows: int) -> Sequence[Tensor]:
    """Views of the pairs that are 0, 1, ... rows apart."""
    return pairs.split(list(range(num_rows, 0, -1)), dim=-2)
