"""Fusion heads: from each modality's z to logits, for a group of runs of one shape.

A head is two steps, `fuse` to `(run, batch, num_features)` and `classify` to logits, so that dropout over the fused
units has its place. A head that can write its gradient by hand also gives `pullback`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from amr.common.registry import Registry
from amr.fusion.attribution.gradients import magnitudes
from amr.fusion.run_axis.layers import Draws, of_runs


@dataclass(frozen=True)
class HeadShape:
    """What a head is built for.

    Args:
        embed_dims: modality to size of its z, in the order of the modalities.
        num_classes: at least 2.
        hidden: units of a hidden layer; 0 for none, or for the head's own width where it must have one.
        condition: the modality that conditions the others, where the head has one; None: the first.
    """

    embed_dims: Mapping[str, int]
    num_classes: int
    hidden: int = 0
    condition: str | None = None

    @property
    def width(self) -> int:
        """Units of the fused representation, for heads that must have one."""
        return self.hidden or 128


def step_mask(z: Tensor) -> Tensor:
    """`(..., steps, dim)` to bool `(..., steps)`: which steps are there. Padding is zero in every dimension.

    The mask is in z itself, so that clips can be gathered, permuted, scaled and replaced by zeros without it.
    """
    return (z != 0).any(-1)


class Head(nn.Module):
    """What the trainer, the methods and the attribution ask of a head.

    Attributes:
        num_features: size of the fused representation.
        has_pullback: whether `pullback` is there; else gradients are autograd's.
        listed: whether people may ask for it by name; the others belong to a method.
        takes_steps: whether z may have steps; for other heads they are averaged when the cache is read.
        shares_inputs: whether z may have a shorter first axis, where runs in a row share their clips.
    """

    summary = ""
    has_pullback = False
    takes_steps = False
    shares_inputs = False
    listed = True
    num_features: int

    def __init__(self, shape: HeadShape, draws: Draws) -> None:
        super().__init__()
        self.shape = shape
        self.modalities = tuple(shape.embed_dims)

    @classmethod
    def check(cls, hidden: int, modalities: Sequence[str], condition: str | None = None) -> None:
        """Refuse settings that the head cannot use."""
        if condition is not None:
            raise ValueError(
                f"--condition must be left out where no modality conditions the others, got {condition!r}. "
                "Pass --head film with it."
            )

    def fuse(self, z: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Each `(run, batch, dim)` to `(run, batch, num_features)`.

        Args:
            z: modality to its encoding; 0 where the clip lacks it. `(run, batch, steps, dim)`, padded with zeros,
                where the head `takes_steps` and the embedding has them; `step_mask` tells them apart.
            present: bool `(run, batch, modalities)`.
        """
        raise NotImplementedError

    def classify(self, features: Tensor) -> Tensor:
        """`(run, batch, num_features)` to logits `(run, batch, classes)`."""
        raise NotImplementedError

    def forward(self, z: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Each `(run, batch, dim)` to logits `(run, batch, classes)`."""
        return self.classify(self.fuse(z, present))

    def pullback(self, features: Tensor, cotangent: Tensor) -> dict[str, Tensor]:
        """`(run, batch, classes)` at the fused `features` to the gradient of each z, as ordinary matrix products."""
        raise NotImplementedError

    def magnitudes(
        self, z: Mapping[str, Tensor], features: Tensor, cotangent: Tensor, pooling: str, *, zero_sum: bool
    ) -> Tensor:
        """`(run, batch, modalities)`: the norms of gradient x input, by `pullback`.

        Args:
            z: as `fuse` takes it.
            features: what `fuse` made of it.
            cotangent: `(run, batch, classes)`.
            pooling: l2 or l1.
            zero_sum: the cotangent sums to 0 over the classes.
        """
        gradients = self.pullback(features, cotangent)
        return magnitudes({m: g * of_runs(z[m], len(g)) for m, g in gradients.items()}, pooling, clip_axis=1)


heads: Registry[type[Head]] = Registry("--head")
