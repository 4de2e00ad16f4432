r"""How much of a decision each modality carries: gradient x input at the encoder's output (paper, section 3).

Shapes: logits `(..., clips, classes)`; each modality's z `(..., clips, dim)` or `(..., clips, steps, dim)`.
Any leading axes, such as one for runs, are carried along.

    alpha_i = d output_c / d z_i * z_i          c the predicted class
    alpha_i^m = || alpha_i restricted to modality m ||
    share_i^m = alpha_i^m / sum_j alpha_i^j
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from amr.common.registry import unknown
from amr.fusion.attribution.shapley import HeadFunction, shapley_split, subset_logits
from amr.fusion.config import OUTPUTS, POOLINGS


def output_cotangent(logits: Tensor, output: str = "probability") -> Tensor:
    """`(..., clips, classes)`: the gradient of the attributed output with respect to the logits.

    `probability` goes through the log-odds of the predicted class, f_c - logsumexp of the others: the
    probability's own gradient is p_c (1 - p_c) times it, a factor that cancels in shares and would vanish on a
    sure head. `logit` is f_c, `centered` is f_c minus the mean logit. The predicted class is a constant.

    >>> output_cotangent(torch.tensor([[2.0, 0.0, 0.0]]))
    tensor([[ 1.0000, -0.5000, -0.5000]])
    """
    if output not in OUTPUTS:
        raise unknown("--attribution-output", output, OUTPUTS)
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
    num_steps: int = 16,
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
        num_steps: points on the line.
        create_graph: keep the graph, so that a loss on the result can train the head.
    """
    points, weights = np.polynomial.legendre.leggauss(num_steps)
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


def shapley_values(
    head: HeadFunction,
    z: Mapping[str, Tensor],
    present: Tensor,
    output: str = "probability",
    baseline: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Logits at z, and each modality's exact Shapley value of the output, signed: `(..., clips, modalities)`.

    The output is log p of the class predicted at z, its logit, or its centered logit; absent modalities are replaced
    by the baseline. The values sum to output(all) - output(none).
    """
    values = subset_logits(head, z, present, baseline)
    logits = values[-1]
    predicted = logits.argmax(-1, keepdim=True).expand(*values.shape[:-1], 1)
    return logits, shapley_split(output_value(values, predicted, output)).movedim(0, -1)


def output_value(logits: Tensor, predicted: Tensor, output: str) -> Tensor:
    """`(...)`: log p, the logit, or the centered logit of class `predicted`, `(..., 1)`."""
    if output not in OUTPUTS:
        raise unknown("--attribution-output", output, OUTPUTS)
    if output == "probability":
        logits = logits.log_softmax(-1)
    elif output == "centered":
        logits = logits - logits.mean(-1, keepdim=True)
    return logits.gather(-1, predicted).squeeze(-1)


def magnitudes(attributions: Mapping[str, Tensor], pooling: str = "l2", *, clip_axis: int = -2) -> Tensor:
    """`(..., clips, modalities)`: the norm of each modality's attribution, over everything behind `clip_axis`.

    Args:
        attributions: each `(..., clips, dim)`, or `(..., clips, steps, dim)` with `clip_axis` from the front.
        pooling: `l2` or `l1`.
        clip_axis: which axis the clips are on; the norm goes over all axes behind it.
    """
    if pooling not in POOLINGS:
        raise unknown("--attribution-pooling", pooling, POOLINGS)
    order = 2 if pooling == "l2" else 1
    # vector_norm, not the root of a sum of squares, whose gradient is NaN at zero
    return torch.stack(
        [
            torch.linalg.vector_norm(alpha.flatten(clip_axis % alpha.ndim + 1), ord=order, dim=-1)
            for alpha in attributions.values()
        ],
        dim=-1,
    )


def shares(magnitude: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Each clip's shares and which clips have any.

    Args:
        magnitude: `(..., clips, modalities)`, as `magnitudes` gives.
        present: bool, of the same shape or one that broadcasts to it; None: all are there.

    Returns:
        Shares `(..., clips, modalities)` that sum to 1, 0 for clips left out; bool `(..., clips)`, false for
        clips whose attributions are all zero or that have fewer than two of several modalities.

    >>> shares(torch.tensor([[3.0, 1.0], [0.0, 0.0]]))
    (tensor([[0.7500, 0.2500],
            [0.0000, 0.0000]]), tensor([ True, False]))
    """
    if present is not None:
        magnitude = magnitude.masked_fill(~present, 0)
    counted = torch.isfinite(magnitude).all(-1) & (magnitude.sum(-1) > 0)
    if present is not None:
        enough = present.sum(-1) >= min(2, magnitude.shape[-1])
        counted = counted & enough
    total = magnitude.sum(-1, keepdim=True).masked_fill(~counted[..., None], 1)
    return (magnitude / total).masked_fill(~counted[..., None], 0), counted


def mean_share(share: Tensor, counted: Tensor) -> Tensor:
    """`(..., modalities)`: the mean over the clips that count; NaN where none does."""
    return share.sum(-2) / counted.sum(-1, keepdim=True)
