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

MAX_CLASSES = 10  # with more, g itself is cheaper (docs/benchmarks.md)


def linear_magnitudes(z: Sequence[Tensor], weight: Tensor, cotangent: Tensor, *, zero_sum: bool = False) -> Tensor:
    """L2 norms of gradient x input, `(run, batch, modalities)`.

    Args:
        z: Inputs, one per modality, each `(run, batch, dim)`, or `(shared, batch, dim)` if adjacent runs share it;
            constants.
        weight: Weight `(run, classes, dims)`, where dims are those of all modalities, in order.
        cotangent: Cotangent `(run, batch, classes)`.
        zero_sum: Whether the cotangent sums to 0 over the classes. If so, one row of W is subtracted from the others:
            there is one class fewer, and what all rows have in common cancels before it is squared.
    """
    shared = len(z[0]) < len(cotangent)  # if not, each pairwise product serves one batch only, and g is cheaper
    if not shared or cotangent.shape[-1] > MAX_CLASSES:
        return dense_magnitudes(z, weight, cotangent)
    return quadratic_magnitudes(z, weight, cotangent, zero_sum=zero_sum)


def dense_magnitudes(z: Sequence[Tensor], weight: Tensor, cotangent: Tensor) -> Tensor:
    """Same as `linear_magnitudes`, always by g."""
    return _Dense.apply(weight, cotangent, *z)


def quadratic_magnitudes(z: Sequence[Tensor], weight: Tensor, cotangent: Tensor, *, zero_sum: bool = False) -> Tensor:
    """Same as `linear_magnitudes`, always by the quadratic form."""
    u = cotangent.mT
    if zero_sum:
        row = _central_rows(weight, [x.shape[-1] for x in z])
        others, differences = (x.to(weight) for x in _without(row, weight.shape[1]))
        weight, u = torch.bmm(differences, weight), torch.bmm(others, u)
    return _Quadratic.apply(weight, u, *z)


def _inverse(norm: Tensor) -> Tensor:
    """1 / norm, or 0 if the norm is 0: its gradient there is defined as 0."""
    return (1 / norm).masked_fill_(norm == 0, 0)


def _parts(x: Tensor, z: Sequence[Tensor]) -> list[Tensor]:
    """Views of `(run, rows, dims)` for each modality, `(shared, sharing runs, rows, dim)`."""
    parts = x.split([each.shape[-1] for each in z], dim=-1)
    return [part.unflatten(0, (len(each), -1)) for part, each in zip(parts, z, strict=True)]


class _Dense(torch.autograd.Function):
    """All modalities at once: one product makes g of all dimensions."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, cotangent: Tensor, *z: Tensor) -> Tensor:
        product = torch.bmm(cotangent, weight)  # g, then g * z in its place: (run, batch, dims)
        for part, x in zip(_parts(product, z), z, strict=True):
            part.mul_(x.unsqueeze(1))
        norms = [torch.linalg.vector_norm(part, dim=-1).flatten(0, 1) for part in _parts(product, z)]
        norm = torch.stack(norms, dim=-1)
        ctx.save_for_backward(weight, cotangent, product, norm, *z)
        return norm

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, cotangent, product, norm, *z = ctx.saved_tensors
        scale = (grad * _inverse(norm)).unsqueeze(2)  # (run, batch, 1, modalities)
        outer = torch.empty_like(product)  # d norm / d g = g * z^2 / norm
        for i, (part, x, result) in enumerate(zip(_parts(product, z), z, _parts(outer, z), strict=True)):
            torch.mul(part, x.unsqueeze(1), out=result).mul_(scale[..., i].unflatten(0, (len(x), -1)))
        return torch.bmm(cotangent.mT, outer), torch.bmm(weight, outer.mT).mT, *[None] * len(z)


class _Quadratic(torch.autograd.Function):
    """All modalities at once: their dimensions are concatenated; only the products with z^2 are separate.

    With Q symmetric, norm^2 = sum_k,l u_k u_l Q_kl. The gradient of the norm is Q u / norm with respect to u, and
    sum_l u_k u_l w_l z^2 / norm with respect to w_k, which is the same product with pairs of u instead of w.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, u: Tensor, *z: Tensor) -> Tensor:
        num_rows, squares = weight.shape[1], [x.square() for x in z]  # each (shared, batch, dim)
        pairs = _pairs(u)  # (run, pairs, batch)
        q = u.new_empty(len(z), *pairs.shape)
        for products, x, result in zip(_parts(_pairs(weight), z), squares, q, strict=True):
            _bmm_shared(products, x.mT, result)
        terms = q * pairs
        norm = terms[:, :, num_rows:].sum(2).mul_(2).add_(terms[:, :, :num_rows].sum(2))
        norm = norm.clamp_min_(0).sqrt_()  # rounding can make it slightly negative
        ctx.save_for_backward(weight, u, pairs, q, norm, *squares)
        return norm.movedim(0, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, u, pairs, q, norm, *squares = ctx.saved_tensors
        scale = (grad.movedim(-1, 0) * _inverse(norm)).unsqueeze(2)  # (modality, run, 1, batch)
        grad_u = _contract((q * scale).sum(0), u)
        products = weight.new_empty(*pairs.shape[:2], weight.shape[-1])  # (run, pairs, dims)
        for scaled, x, result in zip(pairs * scale, squares, _parts(products, squares), strict=True):
            _bmm_shared(scaled, x, result)
        return _contract(products, weight), grad_u, *[None] * len(squares)


@torch.no_grad()
def _central_rows(weight: Tensor, sizes: Sequence[int]) -> Tensor:
    """Row of each run that is nearest to the mean row, `(run, 1)`; every modality counts alike.

    Relative to a row that dwarfs the others, all differences would be large. Where its cotangent is small they cancel,
    but only after they were squared and rounded.
    """
    from_mean = (weight - weight.mean(1, keepdim=True)).split(sizes, dim=-1)
    distances = torch.stack([torch.linalg.vector_norm(x, dim=-1) for x in from_mean])  # (modality, run, rows)
    return (distances / distances.sum(-1, keepdim=True)).nan_to_num(0).sum(0).argmin(-1, keepdim=True)


def _without(row: Tensor, num_rows: int) -> tuple[Tensor, Tensor]:
    """Matrices `(run, rows - 1, rows)` that take all rows but one, `(run, 1)`, and their differences from that one."""
    identity, others = torch.eye(num_rows, device=row.device), torch.arange(num_rows - 1, device=row.device)
    others = identity[others + (others >= row)]
    return others, others - identity[row]


def _bmm_shared(x: Tensor, shared: Tensor, result: Tensor) -> None:
    """Write `(run, rows, in)` times `(shared, in, out)` to `result`: one wide product for runs that share a factor."""
    wide, wide_result = (each.reshape(len(shared), -1, each.shape[-1]) for each in (x, result))  # views
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
