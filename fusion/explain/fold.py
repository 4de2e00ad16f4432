"""What one model makes of one clip: shares by every attribution, answers without each modality, weights of steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.attribution.gradients import grad_x_input
from amr.fusion.data.clips import Clips
from amr.fusion.evaluate.measures.perturb import replace_by_mean, train_statistics, without
from amr.fusion.model import FusionModel, predict_logits, predict_shares
from amr.fusion.run_axis.axes import step_mask

VIEWS = {
    "grad_x_input": Attributor(),
    "grad_x_input_logit": Attributor(output="logit"),
    "integrated_gradients": Attributor(attribution="integrated_gradients"),
    "shapley": Attributor(attribution="shapley"),
}


@dataclass(frozen=True)
class FoldNumbers:
    """What one fold's model makes of the clip.

    Args:
        probabilities: `(classes,)`.
        shares: attribution to `(modalities,)`; NaN where the clip has fewer than two of them.
        removed: baseline to modality to `(classes,)`.
        weights: modality to `(steps,)`.
    """

    probabilities: Tensor
    shares: Mapping[str, Tensor]
    removed: Mapping[str, Mapping[str, Tensor]]
    weights: Mapping[str, Tensor]


def explain_fold(
    model: FusionModel, clips: Clips, infos: Mapping[str, Mapping[str, Any]], train: Clips | None
) -> FoldNumbers:
    """One clip and one model.

    Args:
        model: a group of one run.
        clips: the one clip, normalised, with its steps.
        infos: modality to what the cache says of its embedding.
        train: the fold's train clips, for means; None where they are not at hand.
    """
    taken = clips if model.head.takes_steps else clips.pool_steps()
    shares = {}
    for name, attributor in VIEWS.items():
        _, share, counted = predict_shares(model, taken, attributor)
        shares[name] = torch.where(counted[0, 0], share[0, 0], torch.nan).cpu()
    return FoldNumbers(
        probabilities=predict_logits(model, taken)[0, 0].softmax(-1).cpu(),
        shares=shares,
        removed=_removals(model, taken, train),
        weights=step_weights(model, clips, infos),
    )


def _removals(model: FusionModel, clips: Clips, train: Clips | None) -> dict[str, dict[str, Tensor]]:
    """Baseline to modality to `(classes,)`: the probabilities without a modality that the clip has."""
    there = [m for m, present in zip(model.modalities, clips.present[0].tolist(), strict=True) if present]
    changed = {"zero": {m: without(clips, [m]) for m in there}}
    if train is not None:
        means, _ = train_statistics(train)
        changed["mean"] = {m: replace_by_mean(clips, [m], means) for m in there}
    return {
        baseline: {m: predict_logits(model, one)[0, 0].softmax(-1).cpu() for m, one in by_modality.items()}
        for baseline, by_modality in changed.items()
    }


def step_weights(model: FusionModel, clips: Clips, infos: Mapping[str, Mapping[str, Any]]) -> dict[str, Tensor]:
    """Modality to `(steps,)`: the norm of gradient x input in each step of the one clip, over their sum.

    The gradient is of the predicted class's log-odds at the normalised embedding. Steps that the head takes averaged
    have their part of the mean's; an embedding that is its steps one behind the other is divided into them.
    """
    inputs = {m: e[:1].float().clone().requires_grad_() for m, e in clips.embeddings.items()}
    taken = Clips(inputs, clips.present, clips.target)
    logits = model((taken if model.head.takes_steps else taken.pool_steps()).slice(0, 1, 1))
    weights = {}
    for i, (m, alpha) in enumerate(grad_x_input(logits, inputs).items()):
        if not clips.present[0, i]:
            continue
        if alpha.ndim == 3:
            parts = alpha[0, step_mask(inputs[m])[0]]  # (steps, dim)
        elif (num_parts := _parts(infos[m])) > 1:
            parts = alpha[0].view(num_parts, -1)
        else:
            continue
        norms = torch.linalg.vector_norm(parts, dim=-1)
        weights[m] = (norms / norms.sum().clamp_min(torch.finfo(norms.dtype).tiny)).detach().cpu()
    return weights


def _parts(info: Mapping[str, Any]) -> int:
    """How many steps a flat embedding is made of; 1 where it is not made of steps."""
    preprocessing = info["preprocessing"]
    num_parts = preprocessing.get("steps", preprocessing.get("frames"))
    whole = preprocessing.get("keep") == "flat" and isinstance(num_parts, int) and info["embed_dim"] % num_parts == 0
    return num_parts if whole else 1
