r"""How much of a decision each modality carries: gradient x input at the encoder's output (paper, section 3).

Shapes: logits `(..., clips, classes)`; each modality's z `(..., clips, dim)` or `(..., clips, steps, dim)`.
Leading axes, such as the run axis, pass through. Logits `(..., clips, positions, classes)` are a decision per position;
g is then the sum over the positions.

    g_i^m = d output_c / d z_i^m * z_i^m        i the clip, m the modality, c the predicted class
    a_i^m = || g_i^m ||
    s_i^m = a_i^m / sum_k a_i^k                 the share
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from amr.fusion.attribution.any_head.derivatives import input_gradients
from amr.fusion.attribution.base import Attribution, AttributionSettings, HeadFunction, attributions
from amr.fusion.attribution.share import magnitudes
from amr.fusion.run_axis.axes import of_runs
from amr.fusion.tasks.base import Task
from amr.fusion.tasks.multiclass import MULTICLASS, output_cotangent, output_value

__all__ = ["GradXInput", "grad_x_input", "output_cotangent", "output_value"]


def grad_x_input(
    logits: Tensor,
    z: Mapping[str, Tensor],
    output: str = "probability",
    *,
    create_graph: bool = False,
    task: Task = MULTICLASS,
) -> dict[str, Tensor]:
    """Gradient x input of each modality, shaped as its z, by autograd.

    Args:
        logits: Logits `(..., clips, classes)`, computed from `z` with gradients enabled.
        z: Modality to its encoding; each must require gradients.
        output: Output that is attributed, as for `output_cotangent`.
        create_graph: Whether to keep the graph, so that a loss on the result trains the head.
        task: What the logits say.

    Raises:
        ValueError: The logits depend on no z.
        RuntimeError: An operation between z and the logits has no derivative.
    """
    cotangent = task.cotangent(logits, output)
    gradients = input_gradients(logits, list(z.values()), cotangent, create_graph=create_graph)
    return {name: gradient * value for (name, value), gradient in zip(z.items(), gradients, strict=True)}


@attributions.register("grad_x_input")
class GradXInput(Attribution):
    """Gradient x input (paper, section 3), by the closed form of the head if it has one, else by autograd."""

    summary = "gradient x input at the encoder's output, the paper's own"
    label = "gradient x input"
    citation = "paper, section 3"

    def magnitudes(
        self,
        head: HeadFunction,
        z: Mapping[str, Tensor],
        present: Tensor,
        settings: AttributionSettings,
        *,
        create_graph: bool,
    ) -> tuple[Tensor, Tensor]:
        """Logits, and the norm of each modality's gradient x input."""
        if getattr(head, "closed_form", False):
            return _closed_form(head, z, present, settings)
        with torch.enable_grad():
            z = {m: of_runs(value, len(present)).requires_grad_() for m, value in z.items()}
            logits = head(z, present)
            products = grad_x_input(logits, z, settings.output, create_graph=create_graph, task=settings.task)
        return logits, magnitudes(products, settings.pooling, clip_axis=present.ndim - 2)


def _closed_form(
    head: Any, z: Mapping[str, Tensor], present: Tensor, settings: AttributionSettings
) -> tuple[Tensor, Tensor]:
    """Logits and magnitudes of a `Head` with a closed form. It is Any, because this layer must not import heads."""
    features = head.fuse(z, present)
    logits = head.classify(features)
    cotangent = settings.task.cotangent(logits, settings.output)
    return logits, head.magnitudes(z, features, cotangent, settings.pooling)
