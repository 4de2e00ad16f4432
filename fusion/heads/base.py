"""Fusion heads: from each modality's z to logits, for a group of runs of one shape.

A head has two stages, so that dropout can act on the fused units between them: `fuse` to `(run, batch, num_features)`
and `classify` to logits. A head whose gradient has a closed form also defines `input_gradient`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from torch import Tensor, nn

from amr.common.options import NoOptions, parse_options
from amr.common.registry import Registry
from amr.fusion.attribution.share import magnitudes
from amr.fusion.run_axis.axes import of_runs
from amr.fusion.run_axis.seeds import Draws

DEFAULT_WIDTH = 128  # units of the fused representation, if --hidden is 0


@dataclass(frozen=True)
class HeadShape:
    """Sizes and options of a head.

    Args:
        embed_dims: Modality to the size of its z, in the order of the modalities.
        num_classes: Number of classes, at least 2.
        hidden: Units of the hidden layer; 0 for none, or for the default width if the head needs one.
        options: `Options` of the head; None for its defaults.
        experts: Whether each modality has a linear classifier beside the head (`build_head`).
    """

    embed_dims: Mapping[str, int]
    num_classes: int
    hidden: int = 0
    options: Any = None
    experts: bool = False

    @property
    def width(self) -> int:
        """Units of the fused representation, for heads that always project."""
        return self.hidden or DEFAULT_WIDTH


class Head(nn.Module):
    """Base class of heads: the interface for trainer, methods and attributions.

    Attributes:
        summary: One line for `amr heads`.
        Options: Frozen dataclass of the head's own options.
        closed_form: Whether the head defines `input_gradient`; if not, attributions use autograd.
        takes_steps: Whether z may have steps; for other heads, steps are averaged when the cache is read.
        shares_inputs: Whether the first axis of z may be shorter than the run axis, if adjacent runs share their clips.
        listed: Whether `--head` accepts it; other heads belong to a method.
        num_features: Size of the fused representation.
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
        """Raise ValueError for settings that the head cannot use."""

    def fuse(self, z: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Fuse each z `(run, batch, dim)` to features `(run, batch, num_features)`.

        Args:
            z: Modality to its encoding; 0 if the clip lacks it. If the head `takes_steps`, an encoding may be
                `(run, batch, steps, dim)`, padded with zeros; `step_mask` finds the padding.
            present: Bool `(run, batch, modalities)`.
        """
        raise NotImplementedError

    def classify(self, features: Tensor) -> Tensor:
        """`(run, batch, num_features)` to logits `(run, batch, classes)`."""
        raise NotImplementedError

    def forward(self, z: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Fuse each z `(run, batch, dim)` and classify: logits `(run, batch, classes)`."""
        return self.classify(self.fuse(z, present))

    def modality_logits(self, z: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Modality to `(run, batch, classes)` that depends on its z only, if the logits are their sum; else None."""
        return None

    def scale_modalities(self, factors: Sequence[float]) -> bool:
        """Multiply W_m of each modality by a factor, in place, if the logits are b + sum_m W_m h(z^m); else False."""
        return False

    def input_gradient(self, features: Tensor, cotangent: Tensor) -> dict[str, Tensor]:
        """Gradient of each z, `(run, batch, dim)`, from a cotangent `(run, batch, classes)` at `features`.

        The cotangent is the gradient with respect to the logits (PyTorch's grad_outputs).

        It must be ordinary differentiable operations, so that a loss on it trains the head.
        """
        raise NotImplementedError

    def magnitudes(self, z: Mapping[str, Tensor], features: Tensor, cotangent: Tensor, pooling: str) -> Tensor:
        """Norms of gradient x input, `(run, batch, modalities)`, by `input_gradient`.

        Args:
            z: Encodings, as for `fuse`.
            features: Output of `fuse` for z.
            cotangent: Gradient of the attributed output with respect to the logits, `(run, batch, classes)`.
            pooling: Norm: l2 or l1.
        """
        gradients = self.input_gradient(features, cotangent)
        return magnitudes({m: g * of_runs(z[m], len(g)) for m, g in gradients.items()}, pooling, clip_axis=1)


heads: Registry[type[Head]] = Registry("--head")


def head_options(name: str, texts: Sequence[str], condition: str | None = None) -> Any:
    """Parse the options of a head.

    Args:
        name: Name of the head.
        texts: Options as KEY=VALUE, as in `--head-option`.
        condition: Value of `--condition`, the older form of film's option `condition`.

    Raises:
        ValueError: The head has no such option, or a value has the wrong type.
    """
    options = heads[name].Options
    if condition is not None:
        if "condition" not in {each.name for each in fields(options)}:
            raise ValueError(
                f"--condition must be left out for --head {name}, in which no modality conditions the others, "
                f"got {condition!r}. Pass --head film with it."
            )
        texts = [*texts, f"condition={condition}"]
    return parse_options(options, texts, "--head-option", name)
