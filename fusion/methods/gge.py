"""Greedy gradient ensemble (Han et al. 2021, Greedy Gradient Ensemble for Robust Visual Question Answering)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from amr.fusion.data.clips import Batch, Clips
from amr.fusion.methods.base import Method, Setting, mean_over, methods
from amr.fusion.model import FusionModel, predict_logits
from amr.fusion.run_axis.axes import step_mask

if TYPE_CHECKING:
    from amr.fusion.model import Fitted


@methods.register("gge")
class GreedyGradientEnsemble(Method):
    """Each model of a chain fits what those before it left over (Han et al. 2021: GGE-DQ, all at once).

        prior   = log of the classes' frequencies in train
        dominant = W z^d, z^d detached, d the modality that is best alone on val
        dominant fits clamp(onehot - softmax(prior), 0, 1)
        base     fits clamp(onehot - softmax(prior + dominant), 0, 1)             base: the joint head

    Each fits by per-class binary cross-entropy with logits, summed over classes. That is an adaptation of the
    authors' multi-label loss to one class a clip: with softmax cross-entropy the pseudo-target would be no more than
    a weight 1 - p_y. The base alone is tested; the chain is left behind. d is found for each run, by its uni-modal
    run's right answers on val over all of its clips, on train where there is no val. A clip without d has the prior
    for its bias.

    Against end-to-end training, the base's encoders cannot look for what the dominant modality leaves over: only its
    adapters and head can.
    """

    summary = "the head fits what class prior and dominant modality leave over"
    citation = "Han et al. 2021, GGE-DQ-tog"
    optimizer = "adamax"
    lr = 1e-3
    weight_decay = 0.0
    clip_norm = 0.25
    graph_safe = True

    def __init__(self, options: object, setting: Setting) -> None:
        super().__init__(options, setting)
        shape = setting.model.shape.head_shape
        counts = setting.train.target.bincount(minlength=shape.num_classes)
        self.prior = (counts / counts.sum()).log()  # (classes,); -inf where train has none
        self.names = setting.model.modalities
        self.dominant = dominant({m: setting.fit_unimodal(m) for m in self.names}, setting)  # (run,)
        # The problem is convex, so zeros do; a matrix for each modality, as runs may differ in theirs.
        num_runs, device = len(self.dominant), setting.train.target.device
        self.heads = {
            m: nn.Parameter(torch.zeros(num_runs, dim, shape.num_classes, device=device))
            for m, dim in shape.embed_dims.items()
        }

    def parameters(self) -> list[Tensor]:
        """The dominant heads."""
        return list(self.heads.values())

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """The base's loss and the dominant head's; neither reaches the other."""
        onehot = functional.one_hot(batch.target, len(self.prior)).to(self.prior.dtype)
        there = batch.present.gather(-1, self._run_index(batch.present)).squeeze(-1)  # (run, batch)
        answer = self._answer(z)  # (run, batch, classes)
        bias = self.prior + answer.detach().masked_fill(~there.unsqueeze(-1), 0)
        base = fit_loss(model.head(z, batch.present), pseudo_target(onehot, bias))
        greedy = fit_loss(answer, pseudo_target(onehot, self.prior.expand_as(answer)))
        return base.mean(-1) + mean_over(greedy, there)

    def epoch_values(self) -> dict[str, Tensor]:
        """1 for the dominant modality, 0 for the others."""
        return {f"dominant_{m}": (self.dominant == i).float() for i, m in enumerate(self.names)}

    def _answer(self, z: Mapping[str, Tensor]) -> Tensor:
        """Logits of the dominant modality's head, `(run, batch, classes)`."""
        answers = [_pool_steps(value.detach()) @ self.heads[m] for m, value in z.items()]
        stacked = torch.stack(answers, dim=-1)  # (run, batch, classes, modalities)
        return stacked.gather(-1, self._run_index(stacked)).squeeze(-1)

    def _run_index(self, values: Tensor) -> Tensor:
        """The dominant modality as an index into the last axis of `(run, ..., modalities)`."""
        return self.dominant.view(-1, *[1] * (values.ndim - 1)).expand(*values.shape[:-1], 1)


def dominant(alone: Mapping[str, Fitted], setting: Setting) -> Tensor:
    """`(run,)`: the place of the modality with the most right answers alone."""
    clips = setting.val if len(setting.val) > 0 else setting.train
    return torch.stack([_num_right(fitted, clips.only(m).pool_steps()) for m, fitted in alone.items()]).argmax(0)


def _num_right(fitted: Fitted, clips: Clips) -> Tensor:
    """`(run,)`: how many of the clips are answered right; 0 where there are none."""
    if len(clips) == 0:
        return torch.zeros(len(fitted.best_epoch), dtype=torch.long, device=clips.target.device)
    return (predict_logits(fitted.model, clips).argmax(-1) == clips.target).sum(-1)


def pseudo_target(onehot: Tensor, bias: Tensor) -> Tensor:
    """What the biased models leave over, in [0, 1]: both `(run, batch, classes)`."""
    return (onehot - bias.softmax(-1)).clamp(0, 1)


def fit_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy summed over classes: both `(run, batch, classes)` to `(run, batch)`."""
    return functional.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(-1)


def _pool_steps(z: Tensor) -> Tensor:
    """`(run, batch, steps, dim)` to `(run, batch, dim)`, over the steps that are there; without steps as it is."""
    return z if z.ndim == 3 else z.sum(2) / step_mask(z).sum(-1, keepdim=True).clamp_min(1)
