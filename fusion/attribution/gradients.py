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

from amr.common.registry import unknown
from amr.fusion.attribution.any_head.derivatives import input_gradients
from amr.fusion.attribution.base import Attribution, AttributionSettings, HeadFunction, attributions
from amr.fusion.attribution.share import magnitudes
from amr.fusion.choices import OUTPUTS
from amr.fusion.run_axis.axes import log_softmax, of_runs


def output_cotangent(logits: Tensor, output: str = "probability") -> Tensor:
    """Cotangent: gradient of the output with respect to the logits (PyTorch's grad_outputs), `(..., clips, classes)`.

    `probability` uses the log-odds of the predicted class, f_c - logsumexp of the other logits. The gradient of the
    probability itself is p_c (1 - p_c) times that. The factor cancels in shares, but underflows if the head is certain.
    `logit` is f_c, and `centered` is f_c minus the mean logit. The predicted class is a constant.

    >>> output_cotangent(torch.tensor([[2.0, 0.0, 0.0]]))
    tensor([[ 1.0000, -0.5000, -0.5000]])
    """
    if output not in OUTPUTS:
        raise unknown("output", output, OUTPUTS)
    best = logits.max(-1, keepdim=True).indices  # argmax is slow on a CPU if the classes are not last in memory
    predicted = torch.zeros_like(logits).scatter_(-1, best, 1)
    if output == "logit":
        return predicted
    if output == "centered":
        return predicted - 1 / logits.shape[-1]
    return predicted - log_softmax(logits.scatter(-1, best, -torch.inf)).exp()


def grad_x_input(
    logits: Tensor, z: Mapping[str, Tensor], output: str = "probability", *, create_graph: bool = False
) -> dict[str, Tensor]:
    """Gradient x input of each modality, shaped as its z, by autograd.

    Args:
        logits: Logits `(..., clips, classes)`, computed from `z` with gradients enabled.
        z: Modality to its encoding; each must require gradients.
        output: Output that is attributed, as for `output_cotangent`.
        create_graph: Whether to keep the graph, so that a loss on the result trains the head.

    Raises:
        ValueError: The logits depend on no z.
        RuntimeError: An operation between z and the logits has no derivative.
    """
    cotangent = output_cotangent(logits, output)
    gradients = input_gradients(logits, list(z.values()), cotangent, create_graph=create_graph)
    return {name: gradient * value for (name, value), gradient in zip(z.items(), gradients, strict=True)}


def output_value(logits: Tensor, predicted: Tensor, output: str) -> Tensor:
    """Log p, logit, or centered logit of the class `predicted`, `(..., 1)`: `(..., classes)` to `(...)`."""
    if output not in OUTPUTS:
        raise unknown("output", output, OUTPUTS)
    if output == "probability":
        logits = logits.log_softmax(-1)
    elif output == "centered":
        logits = logits - logits.mean(-1, keepdim=True)
    return logits.gather(-1, predicted).squeeze(-1)


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
            products = grad_x_input(logits, z, settings.output, create_graph=create_graph)
        return logits, magnitudes(products, settings.pooling, clip_axis=present.ndim - 2)


def _closed_form(
    head: Any, z: Mapping[str, Tensor], present: Tensor, settings: AttributionSettings
) -> tuple[Tensor, Tensor]:
    """Logits and magnitudes of a `Head` with a closed form. It is Any, because this layer must not import heads."""
    features = head.fuse(z, present)
    logits = head.classify(features)
    cotangent = output_cotangent(logits, settings.output)
    return logits, head.magnitudes(z, features, cotangent, settings.pooling)
