"""Fusion heads: from each modality's z to logits, for a group of runs of one shape.

A head is two steps, `fuse` to `(run, batch, num_features)` and `classify` to logits, so that dropout over the fused
units has its place. A head that can write its gradient by hand also gives `input_gradient`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from torch import Tensor, nn

from amr.common.options import parse_options
from amr.common.registry import Registry
from amr.fusion.attribution.share import magnitudes
from amr.fusion.run_axis.axes import of_runs
from amr.fusion.run_axis.seeds import Draws

DEFAULT_WIDTH = 128  # units of the fused representation of heads that must have one


@dataclass(frozen=True)
class NoOptions:
    """A head without options of its own."""


@dataclass(frozen=True)
class HeadShape:
    """What a head is built for.

    Args:
        embed_dims: modality to size of its z, in the order of the modalities.
        num_classes: at least 2.
        hidden: units of a hidden layer; 0 for none, or for the head's own width where it must have one.
        options: The head's own `Options`; None for its defaults.
    """

    embed_dims: Mapping[str, int]
    num_classes: int
    hidden: int = 0
    options: Any = None

    @property
    def width(self) -> int:
        """Units of the fused representation, for heads that must have one."""
        return self.hidden or DEFAULT_WIDTH


class Head(nn.Module):
    """What the trainer, the methods and the attribution ask of a head.

    Attributes:
        Options: Frozen dataclass of the head's own options.
        num_features: Size of the fused representation.
        closed_form: whether `input_gradient` is there; else gradients are autograd's.
        listed: whether people may ask for it by name; the others belong to a method.
        takes_steps: whether z may have steps; for other heads they are averaged when the cache is read.
        shares_inputs: whether z may have a shorter first axis, where runs in a row share their clips.
    """

    summary: ClassVar[str] = ""
    Options: ClassVar[type[Any]] = NoOptions
    closed_form = False
    takes_steps = False
    shares_inputs = False
    listed = True
    num_features: int

    def __init__(self, shape: HeadShape, draws: Draws) -> None:
        super().__init__()
        self.shape = shape
        self.modalities = tuple(shape.embed_dims)
        self.options = self.Options() if shape.options is None else shape.options
        self.check(shape.hidden, self.modalities, self.options)

    @classmethod
    def check(cls, hidden: int, modalities: Sequence[str], options: Any) -> None:
        """Refuse settings that the head cannot use."""

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

    def input_gradient(self, features: Tensor, cotangent: Tensor) -> dict[str, Tensor]:
        """`(run, batch, classes)` at the fused `features` to the gradient of each z, as ordinary matrix products."""
        raise NotImplementedError

    def magnitudes(
        self, z: Mapping[str, Tensor], features: Tensor, cotangent: Tensor, pooling: str, *, zero_sum: bool
    ) -> Tensor:
        """`(run, batch, modalities)`: the norms of gradient x input, by `input_gradient`.

        Args:
            z: as `fuse` takes it.
            features: what `fuse` made of it.
            cotangent: `(run, batch, classes)`.
            pooling: l2 or l1.
            zero_sum: the cotangent sums to 0 over the classes.
        """
        gradients = self.input_gradient(features, cotangent)
        return magnitudes({m: g * of_runs(z[m], len(g)) for m, g in gradients.items()}, pooling, clip_axis=1)


heads: Registry[type[Head]] = Registry("--head")


def head_options(name: str, texts: Sequence[str], condition: str | None = None) -> Any:
    """Parse a head's own options.

    Args:
        name: Name of the head.
        texts: KEY=VALUE each, as in `--head-option`.
        condition: Value of `--condition`, the older way to pass film's option of that name.

    Raises:
        ValueError: The head has no such option, or a value has another type.
    """
    options = heads[name].Options
    if condition is not None:
        if "condition" not in {each.name for each in fields(options)}:
            raise ValueError(
                f"--condition must be left out for --head {name}, where no modality conditions the others, "
                f"got {condition!r}. Pass --head film with it."
            )
        texts = [*texts, f"condition={condition}"]
    return parse_options(options, texts, "--head-option")
