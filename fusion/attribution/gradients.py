r"""How much of a decision each modality carries: gradient x input at the encoder's output (paper, section 3).

Shapes: logits `(..., clips, classes)`; each modality's z `(..., clips, dim)` or `(..., clips, steps, dim)`.
Any leading axes, such as one for runs, are carried along.

    alpha_i = d output_c / d z_i * z_i          c the predicted class
    alpha_i^m = || alpha_i restricted to modality m ||
    share_i^m = alpha_i^m / sum_j alpha_i^j
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amr.common.registry import unknown
from amr.fusion.attribution.base import Attribution, AttributionSettings, HeadFunction, attributions
from amr.fusion.attribution.share import magnitudes
from amr.fusion.choices import OUTPUTS
from amr.fusion.run_axis.axes import of_runs


def output_cotangent(logits: Tensor, output: str = "probability") -> Tensor:
    """`(..., clips, classes)`: the gradient of the attributed output with respect to the logits.

    `probability` goes through the log-odds of the predicted class, f_c - logsumexp of the others: the
    probability's own gradient is p_c (1 - p_c) times it, a factor that cancels in shares and would vanish on a
    sure head. `logit` is f_c, `centered` is f_c minus the mean logit. The predicted class is a constant.

    >>> output_cotangent(torch.tensor([[2.0, 0.0, 0.0]]))
    tensor([[ 1.0000, -0.5000, -0.5000]])
    """
    if output not in OUTPUTS:
        raise unknown("output", output, OUTPUTS)
    predicted = torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1])
    if output == "logit":
        return predicted.to(logits.dtype)
    if output == "centered":
        return predicted.to(logits.dtype) - 1 / logits.shape[-1]
    others = logits.masked_fill(predicted.bool(), -torch.inf).softmax(-1)
    return predicted.to(logits.dtype) - others


def grad_x_input(
    logits: Tensor, z: Mapping[str, Tensor], output: str = "probability", *, create_graph: bool = False
) -> dict[str, Tensor]:
    """Gradient x input of each modality, shaped as its z, by autograd.

    Args:
        logits: `(..., clips, classes)`, computed from `z` with gradients on.
        z: each modality's encodings; each must require gradients.
        output: what is attributed; see `output_cotangent`.
        create_graph: keep the graph, so that a loss on the result can train the head.

    Raises:
        RuntimeError: `logits` do not depend on any of `z` (from torch).
    """
    gradients = torch.autograd.grad(
        logits,
        list(z.values()),
        grad_outputs=output_cotangent(logits, output),
        create_graph=create_graph,
        retain_graph=True,
        materialize_grads=True,
    )
    return {name: gradient * value for (name, value), gradient in zip(z.items(), gradients, strict=True)}


def integrated_gradients(
    head: Callable[[Mapping[str, Tensor]], Tensor],
    z: Mapping[str, Tensor],
    output: str = "probability",
    baseline: Mapping[str, Tensor] | None = None,
    *,
    num_points: int = 16,
    create_graph: bool = False,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits at z, and each modality's integrated gradients (Sundararajan et al. 2017), shaped as its z.

    (z - z0) times the mean gradient on the line from the baseline z0 to z, by Gauss-Legendre; the output is log p of
    the class predicted at z, its logit, or its centered logit. They sum to output(z) - output(z0).

    Args:
        head: z to logits `(..., clips, classes)`.
        z: modality to its encodings; constants.
        output: what is attributed.
        baseline: modality to its z0, broadcast to z; None: zero.
        num_points: Points on the line.
        create_graph: keep the graph, so that a loss on the result can train the head.
    """
    points, weights = np.polynomial.legendre.leggauss(num_points)
    logits = head(z)
    predicted = logits.argmax(-1, keepdim=True)
    start = {m: torch.zeros_like(v) if baseline is None else baseline[m].expand_as(v) for m, v in z.items()}
    total = {m: torch.zeros_like(v) for m, v in z.items()}
    for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
        at = {m: (start[m] + float(point) * (v - start[m])).detach().requires_grad_() for m, v in z.items()}
        value = output_value(head(at), predicted, output).sum()
        gradients = torch.autograd.grad(value, list(at.values()), create_graph=create_graph, materialize_grads=True)
        total = {m: total[m] + float(weight) * g for m, g in zip(z, gradients, strict=True)}
    return logits, {m: (v - start[m]) * total[m] for m, v in z.items()}


def output_value(logits: Tensor, predicted: Tensor, output: str) -> Tensor:
    """`(...)`: log p, the logit, or the centered logit of class `predicted`, `(..., 1)`."""
    if output not in OUTPUTS:
        raise unknown("output", output, OUTPUTS)
    if output == "probability":
        logits = logits.log_softmax(-1)
    elif output == "centered":
        logits = logits - logits.mean(-1, keepdim=True)
    return logits.gather(-1, predicted).squeeze(-1)


@attributions.register("grad_x_input")
class GradXInput(Attribution):
    """Gradient x input (paper, section 3), by a head's closed form where it has one, else by autograd."""

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
            closed: Any = head  # a Head, which lies a floor above
            features = closed.fuse(z, present)
            logits = closed.classify(features)
            cotangent = output_cotangent(logits, settings.output)
            zero_sum = settings.output != "logit"
            return logits, closed.magnitudes(z, features, cotangent, settings.pooling, zero_sum=zero_sum)
        with torch.enable_grad():
            z = {m: of_runs(value, len(present)).requires_grad_() for m, value in z.items()}
            logits = head(z, present)
            alpha = grad_x_input(logits, z, settings.output, create_graph=create_graph)
        return logits, magnitudes(alpha, settings.pooling, clip_axis=present.ndim - 2)


@attributions.register("integrated_gradients")
class IntegratedGradients(Attribution):
    """Integrated gradients from the baseline to z."""

    summary = "integrated gradients from the baseline, --attribution-steps points"
    label = "integrated gradients"
    citation = "Sundararajan et al. 2017"
    uses_baseline = True

    def magnitudes(
        self,
        head: HeadFunction,
        z: Mapping[str, Tensor],
        present: Tensor,
        settings: AttributionSettings,
        *,
        create_graph: bool,
    ) -> tuple[Tensor, Tensor]:
        """Logits, and the norm of each modality's integrated gradients."""
        z = {m: of_runs(value, len(present)) for m, value in z.items()}
        with torch.enable_grad():
            logits, alpha = integrated_gradients(
                lambda x: head(x, present),
                z,
                settings.output,
                settings.baseline,
                num_points=settings.num_points,
                create_graph=create_graph,
            )
        return logits, magnitudes(alpha, settings.pooling, clip_axis=present.ndim - 2)
