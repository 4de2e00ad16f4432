"""The norm of gradient x input of a linear layer, || (u W) * z ||, with an explicit gradient.

For cotangents u `(run, batch, classes)`, weights W `(run, classes, dims)` and inputs z, with g = u W:

    n = || g * z ||,    dn / dg = g * z^2 / n,    dn / dW = u^T (dn / dg),    dn / du = (dn / dg) W^T

So a loss on the norm has its gradient after one backward pass, without second derivatives. g is large, `(run, batch,
dims)`, so that memory is what limits the work on it: it is done for a block of runs at a time, which stays in the cache
of a core.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from amr.fusion.run_axis.axes import of_runs

BLOCK_NUMBERS = 2**18  # numbers of g in a block on a CPU: 1 MiB
FEW_ROWS = 32  # with fewer rows of W, g is cheaper to compute twice than to keep


def linear_magnitudes(z: Sequence[Tensor], weight: Tensor, cotangent: Tensor) -> Tensor:
    """L2 norms of gradient x input, `(run, batch, modalities)`.

    Args:
        z: Inputs, one per modality, each `(run, batch, dim)`, or `(shared, batch, dim)` if adjacent runs share it;
            constants.
        weight: Weight `(run, classes, dims)`, where dims are those of all modalities, in order.
        cotangent: Cotangent `(run, batch, classes)`.
    """
    return _Magnitudes.apply(weight, cotangent, *z)


class _Magnitudes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, cotangent: Tensor, *z: Tensor) -> Tensor:
        ctx.sizes = [x.shape[-1] for x in z]
        joined = torch.cat(z, dim=-1)  # (shared, batch, dims)
        if joined.device.type != "cpu":
            joined = of_runs(joined, len(weight))
        ctx.keep = weight.shape[1] >= FEW_ROWS
        product = _empty(weight, joined, all_runs=ctx.keep)  # g * z
        norm = weight.new_empty(*cotangent.shape[:2], len(z))
        for runs, inputs in _blocks(len(weight), joined):
            block = product[runs] if ctx.keep else product[: runs.stop - runs.start]
            torch.bmm(cotangent[runs], weight[runs], out=block).mul_(inputs)
            for part, result in _of_modalities(block, norm[runs], ctx.sizes):
                torch.linalg.vector_norm(part, dim=-1, out=result)
        ctx.save_for_backward(weight, cotangent, joined, norm, *([product] if ctx.keep else []))
        return norm

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, cotangent, joined, norm, *product = ctx.saved_tensors
        scale = (grad / norm).masked_fill_(norm == 0, 0)  # the gradient of a norm of 0 is 0
        grad_weight, grad_cotangent = torch.empty_like(weight), torch.empty_like(cotangent.mT)
        outer = _empty(weight, joined)  # dn / dg
        factor = joined if ctx.keep else joined.square()
        for runs, inputs in _blocks(len(weight), factor):
            block = outer[: runs.stop - runs.start]
            if ctx.keep:
                torch.mul(product[0][runs], inputs, out=block)
            else:
                torch.bmm(cotangent[runs], weight[runs], out=block).mul_(inputs)
            for part, scale_of in _of_modalities(block, scale[runs], ctx.sizes):
                part.mul_(scale_of.unsqueeze(-1))
            torch.bmm(cotangent[runs].mT, block, out=grad_weight[runs])
            torch.bmm(weight[runs], block.mT, out=grad_cotangent[runs])
        return grad_weight, grad_cotangent.mT, *[None] * len(ctx.sizes)


def _of_modalities(block: Tensor, values: Tensor, sizes: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Views of modalities of one width at a time, `(run, batch, modalities, dim)`, with values of each modality."""
    if len(set(sizes)) == 1:
        yield block.unflatten(-1, (len(sizes), -1)), values
    else:
        yield from ((x.unsqueeze(-2), v) for x, v in zip(block.split(sizes, -1), values.split(1, -1), strict=True))


def _runs_of_block(inputs: Tensor, num_runs: int) -> int:
    """Largest number of runs in a block."""
    return max(1, BLOCK_NUMBERS // max(1, inputs[0].numel())) if inputs.device.type == "cpu" else num_runs


def _empty(weight: Tensor, inputs: Tensor, *, all_runs: bool = False) -> Tensor:
    """Memory for `(run, batch, dims)` of a block, which every block uses again, or of all runs."""
    num_runs = len(weight) if all_runs else min(len(weight), _runs_of_block(inputs, len(weight)))
    return weight.new_empty(num_runs, *inputs.shape[1:])


def _blocks(num_runs: int, inputs: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Even blocks of runs, with their inputs: `(run, batch, dims)`, or `(1, batch, dims)` if they share them."""
    sharing = num_runs // len(inputs)
    length = num_runs if sharing == 1 else sharing  # a block is of runs that share their input, or none does
    count = -(-length // _runs_of_block(inputs, num_runs))
    for first in range(0, num_runs, length):
        for i in range(count):
            start, stop = first + length * i // count, first + length * (i + 1) // count
            yield slice(start, stop), inputs[start // sharing : (stop - 1) // sharing + 1]
