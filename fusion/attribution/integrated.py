"""Integrated gradients: gradients on the line from a baseline to z (Sundararajan et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from amr.fusion.attribution.any_head.derivatives import input_gradients
from amr.fusion.attribution.base import Attribution, AttributionSettings, HeadFunction, attributions
from amr.fusion.attribution.share import magnitudes
from amr.fusion.run_axis.axes import of_runs
from amr.fusion.tasks.base import Task
from amr.fusion.tasks.multiclass import MULTICLASS


def integrated_gradients(
    head: Callable[[Mapping[str, Tensor]], Tensor],
    z: Mapping[str, Tensor],
    output: str = "probability",
    baseline: Mapping[str, Tensor] | None = None,
    *,
    num_points: int = 16,
    create_graph: bool = False,
    task: Task = MULTICLASS,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits at z, and each modality's integrated gradients (Sundararajan et al. 2017), shaped as its z.

    They are (z - z0) times the mean gradient on the line from the baseline z0 to z, by Gauss-Legendre quadrature, and
    sum to output(z) - output(z0). The output is log p of the class predicted at z, its logit, or its centered logit.

    Args:
        head: Function of z that returns logits `(..., clips, classes)`.
        z: Modality to its encoding; detached.
        output: Output that is attributed.
        baseline: Modality to its z0, broadcast to z; None for zero.
        num_points: Number of points on the line.
        create_graph: Whether to keep the graph, so that a loss on the result trains the head.
        task: What the logits say.
    """
    points, weights = np.polynomial.legendre.leggauss(num_points)
    logits = head(z)
    decided = task.decided_outputs(logits)
    start = {m: torch.zeros_like(v) if baseline is None else baseline[m].expand_as(v) for m, v in z.items()}
    total = {m: torch.zeros_like(v) for m, v in z.items()}
    for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
        at = {m: (start[m] + float(point) * (v - start[m])).detach().requires_grad_() for m, v in z.items()}
        value = task.attributed_value(head(at), decided, output).sum()
        gradients = input_gradients(value, list(at.values()), create_graph=create_graph)
        total = {m: total[m] + float(weight) * g for m, g in zip(z, gradients, strict=True)}
    return logits, {m: (v - start[m]) * total[m] for m, v in z.items()}


@attributions.register("integrated_gradients")
class IntegratedGradients(Attribution):
    """Integrated gradients from the baseline to z."""

    summary = "integrated gradients from the baseline, --attribution-steps points"
    label = "integrated gradients"
    citation = "Sundararajan et al. 2017"
    uses_baseline = True
    uses_points = True

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
            logits, attributed = integrated_gradients(
                lambda x: head(x, present),
                z,
                settings.output,
                settings.baseline,
                num_points=settings.num_points,
                create_graph=create_graph,
                task=settings.task,
            )
        return logits, magnitudes(attributed, settings.pooling, clip_axis=present.ndim - 2)
