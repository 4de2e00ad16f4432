"""Tensor fusion: the outer product of all modalities, at reduced sizes (Zadeh et al. 2017, TFN, section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from torch import Tensor, nn
from torch.nn import functional

from amr.fusion.heads.base import Head, HeadShape, heads
from amr.fusion.run_axis.layers import StackedLinear
from amr.fusion.run_axis.seeds import Draws

MOST_REDUCED = 32  # the sizes of sound and sight in the paper
DEFAULT_ENTRIES = 2**12  # of the tensor; the paper's has 33 * 33 * 129 = 140,481
MOST_ENTRIES = 2**16  # thousands of clips are predicted at once


@dataclass(frozen=True)
class TensorOptions:
    """Options of the tensor head.

    Args:
        reduced_dim: Size to which each modality is reduced; 0 for the largest with which the tensor has at most
            4,096 entries, from 1 to 32: 32 for two modalities, 15 for three, 3 for six.
    """

    reduced_dim: int = 0

    def __post_init__(self) -> None:
        """Check the size."""
        if self.reduced_dim < 0:
            raise ValueError(
                f"--head-option reduced_dim must be 1 or more, got {self.reduced_dim}. Leave it out for the default."
            )


@heads.register("tensor")
class TensorHead(Head):
    """The outer product of all [r_m, 1], flattened; then a linear layer, with or without a hidden ReLU layer before it.

        r_m    = P_m z_m + p_m                                 (run, batch, reduced_dim); 0 if the clip lacks m
        t      = [r_1, 1] x ... x [r_M, 1]                     (run, batch, (reduced_dim + 1)^M)
        logits = W t + b,    or, with a hidden layer,    V relu(W t + b) + c

    The 1 keeps the products of fewer modalities: an entry of t is a product over a subset of the modalities. If one is
    absent, the products in which it takes part are 0, and those of the others are what they would be without it.

    In the paper, networks of their own make r_m, and two hidden layers of 128 units follow. Here encoders and adapters
    are those networks. The tensor grows exponentially with the number of modalities; `bilinear` has the same products
    without it, its W of low rank.
    """

    summary = "outer product of all embeddings, reduced; then a linear layer; --hidden N puts a ReLU layer between"
    Options = TensorOptions

    def __init__(self, shape: HeadShape, draws: Draws) -> None:
        super().__init__(shape, draws)
        reduced_dim = reduced_dim_of(self.options, len(self.modalities))
        num_entries = (reduced_dim + 1) ** len(self.modalities)
        self.num_features = shape.hidden or num_entries
        self.projections = nn.ModuleList(StackedLinear(dim, reduced_dim, draws) for dim in shape.embed_dims.values())
        self.fusion = StackedLinear(num_entries, shape.hidden, draws) if shape.hidden else None
        self.classifier = StackedLinear(self.num_features, shape.num_classes, draws)

    @classmethod
    def check(cls, hidden: int, modalities: Sequence[str], options: TensorOptions) -> None:
        """The tensor must fit memory."""
        num_modalities = len(modalities)
        if 2**num_modalities > MOST_ENTRIES:
            raise ValueError(
                f"--head tensor must have at most 16 modalities, got {num_modalities}. Pass --head bilinear, which has "
                "the same products in less memory."
            )
        reduced_dim = reduced_dim_of(options, num_modalities)
        if (reduced_dim + 1) ** num_modalities > MOST_ENTRIES:
            largest = _largest(num_modalities, MOST_ENTRIES)
            raise ValueError(
                f"--head-option reduced_dim must be at most {largest} for {num_modalities} modalities, because the "
                f"tensor has (reduced_dim + 1)^{num_modalities} entries, got {reduced_dim}. "
                "Leave it out for the default."
            )

    def fuse(self, z: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Fuse each z `(run, batch, dim)` to features `(run, batch, num_features)`."""
        factors = []
        for i, (m, projection) in enumerate(zip(self.modalities, self.projections, strict=True)):
            reduced = projection(z[m]).masked_fill(~present[..., i, None], 0)
            factors.append(functional.pad(reduced, (0, 1), value=1.0))  # (run, batch, reduced_dim + 1)
        product = reduce(_outer, factors)
        return product if self.fusion is None else self.fusion(product).relu()

    def classify(self, features: Tensor) -> Tensor:
        """`(run, batch, num_features)` to logits `(run, batch, classes)`."""
        return self.classifier(features)


def reduced_dim_of(options: TensorOptions, num_modalities: int) -> int:
    """Size to which each modality is reduced.

    >>> [reduced_dim_of(TensorOptions(), number) for number in (1, 2, 3, 6, 12, 13)]
    [32, 32, 15, 3, 1, 1]
    """
    return options.reduced_dim or min(MOST_REDUCED, _largest(num_modalities, DEFAULT_ENTRIES))


def _outer(left: Tensor, right: Tensor) -> Tensor:
    """Outer product of each clip, flattened: `(run, batch, a)` and `(run, batch, b)` to `(run, batch, a * b)`."""
    return (left.unsqueeze(-1) * right.unsqueeze(-2)).flatten(-2)


def _largest(num_modalities: int, num_entries: int) -> int:
    """Largest size, at least 1, with which the tensor has at most so many entries."""
    size = 1
    while size < num_entries and (size + 2) ** num_modalities <= num_entries:
        size += 1
    return size
