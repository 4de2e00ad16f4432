"""Explain one clip by one model: shares by every attribution, predictions without each modality, weights of steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.attribution.gradients import grad_x_input
from amr.fusion.data.clips import Batch, Clips
from amr.fusion.data.normalization import train_statistics
from amr.fusion.data.targets import TargetScale, readable
from amr.fusion.evaluate.perturb import replace_by_mean, without
from amr.fusion.model import FusionModel, predict_logits, predict_shares
from amr.fusion.run_axis.axes import step_mask
from amr.fusion.tasks import Task
from amr.fusion.tasks.multiclass import MULTICLASS

VIEWS = {
    "grad_x_input": Attributor(),
    "grad_x_input_logit": Attributor(output="logit"),
    "integrated_gradients": Attributor(attribution="integrated_gradients"),
    "shapley": Attributor(attribution="shapley"),
}


@dataclass(frozen=True)
class FoldNumbers:
    """Numbers of one fold's model for the clip.

    Args:
        outputs: Probabilities of classes or labels, or the number as in the cache, `(outputs,)`.
        shares: Attribution to shares, `(modalities,)`; NaN if the clip has fewer than two modalities.
        removed: Baseline to modality to the outputs without it, `(outputs,)`.
        weights: Modality to weights of its steps, `(steps,)`.
    """

    outputs: Tensor
    shares: Mapping[str, Tensor]
    removed: Mapping[str, Mapping[str, Tensor]]
    weights: Mapping[str, Tensor]


def views(task: Task) -> dict[str, Attributor]:
    """Attributions that apply to a task. Without a softmax, log-odds are the outputs, so that two views are one."""
    return {name: replace(a, task=task.name) for name, a in VIEWS.items() if task.one_class or a.output != "logit"}


def explain_fold(
    model: FusionModel,
    clips: Clips,
    infos: Mapping[str, Mapping[str, Any]],
    train: Clips | None,
    task: Task = MULTICLASS,
    scale: TargetScale | None = None,
) -> FoldNumbers:
    """Explain one clip by one model.

    Args:
        model: Model of one run.
        clips: The clip, normalized, with its steps.
        infos: Modality to the cache's description of its embedding.
        train: Train clips of the fold, for means; None if they are not available.
        task: What is predicted.
        scale: Scale of a number that is predicted; None for classes and labels.
    """
    inputs = clips if model.head.takes_steps else clips.pool_steps()
    shares = {}
    for name, attributor in views(task).items():
        _, share, counted = predict_shares(model, inputs, attributor)
        shares[name] = torch.where(counted[0, 0], share[0, 0], torch.nan).cpu()

    def outputs(change: Callable[[Batch], Batch] | None = None) -> Tensor:
        return readable(predict_logits(model, inputs, change)[0, 0], task, scale).cpu()

    changes = _changes(model, inputs, train)
    return FoldNumbers(
        outputs=outputs(),
        shares=shares,
        removed={name: {m: outputs(change) for m, change in of_name.items()} for name, of_name in changes.items()},
        weights=step_weights(model, clips, infos, task),
    )


def _changes(model: FusionModel, clips: Clips, train: Clips | None) -> dict[str, dict[str, Callable[[Batch], Batch]]]:
    """Functions that remove each modality of the clip: baseline to modality to function."""
    present = [m for m, held in zip(model.modalities, clips.present[0].tolist(), strict=True) if held]
    changes: dict[str, dict[str, Callable[[Batch], Batch]]] = {
        "zero": {m: partial(without, modalities=[m]) for m in present}
    }
    if train is not None:
        means, _ = train_statistics(train)
        changes["mean"] = {m: partial(replace_by_mean, modalities=[m], mean=means) for m in present}
    return changes


def step_weights(
    model: FusionModel, clips: Clips, infos: Mapping[str, Mapping[str, Any]], task: Task = MULTICLASS
) -> dict[str, Tensor]:
    """Norm of gradient x input in each step of the clip, over the sum of all: modality to `(steps,)`.

    The gradient is of what the task attributes, such as the log-odds of the predicted class, at the normalized
    embedding. If the head averages over steps, each step gets its part of the mean's gradient. A flat embedding that
    concatenates steps is split back into them.
    """
    inputs = {m: e[:1].float().clone().requires_grad_() for m, e in clips.embeddings.items()}
    tracked = Clips(inputs, clips.present, clips.target)
    logits = model((tracked if model.head.takes_steps else tracked.pool_steps()).slice(0, 1, 1))
    weights = {}
    for i, (m, alpha) in enumerate(grad_x_input(logits, inputs, task=task).items()):
        if not clips.present[0, i]:
            continue
        if alpha.ndim == 3:
            steps = alpha[0, step_mask(inputs[m])[0]]  # (steps, dim)
        elif (num_steps := _num_steps(infos[m])) > 1:
            steps = alpha[0].view(num_steps, -1)
        else:
            continue
        norms = torch.linalg.vector_norm(steps, dim=-1)
        weights[m] = (norms / norms.sum().clamp_min(torch.finfo(norms.dtype).tiny)).detach().cpu()
    return weights


def _num_steps(info: Mapping[str, Any]) -> int:
    """Number of steps that a flat embedding concatenates; 1 if it does not."""
    preprocessing = info["preprocessing"]
    num_steps = preprocessing.get("steps", preprocessing.get("frames"))
    is_flat = preprocessing.get("keep") == "flat" and isinstance(num_steps, int) and info["embed_dim"] % num_steps == 0
    return num_steps if is_flat else 1
