"""Greedy gradient ensemble (Han et al. 2021, Greedy Gradient Ensemble for Robust Visual Question Answering)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from amr.fusion.data.clips import Batch, Clips
from amr.fusion.methods.base import Method, MethodContext, mean_over, methods
from amr.fusion.model import FusionModel, predict_logits
from amr.fusion.run_axis.axes import mean_over_steps

if TYPE_CHECKING:
    from amr.fusion.model import Fitted


@methods.register("gge")
class GreedyGradientEnsemble(Method):
    """Each model of a chain fits the residual of those before it (Han et al. 2021: GGE-DQ, trained together).

        prior    = log of the class frequencies in train
        dominant = W z^d, z^d detached, d the modality with the best uni-modal val accuracy
        dominant fits clamp(onehot - softmax(prior), 0, 1)
        base     fits clamp(onehot - softmax(prior + dominant), 0, 1)             base: the joint head

    Each fits by per-class binary cross-entropy with logits, summed over classes. This adapts the authors' multi-label
    loss to one class per clip; with softmax cross-entropy the pseudo-target would only be a weight 1 - p_y. Only the
    base is tested. The authors' dominant model is an MLP (1024, 1024) below the linear layer; here it is the linear
    layer alone, so it takes less, and leaves more to the base. Their class prior is per question type; here there are
    no such types. d is chosen for each run: the modality whose uni-modal run is correct on most val clips (train clips
    if there is no val). A clip without the modality counts as incorrect. For a clip without d, the bias is the prior.

    On a cache, unlike in `amr train-encoders`, encoders cannot learn what the dominant modality leaves over; only
    adapters and head can.
    """

    summary = "the head fits the residual of class prior and dominant modality"
    citation = "Han et al. 2021, GGE-DQ-tog"
    needs_classes = True
    optimizer = "adamax"
    lr = 1e-3
    weight_decay = 0.0
    clip_norm = 0.25
    graph_safe = True
    fits_unimodal = True

    def __init__(self, options: object, context: MethodContext) -> None:
        super().__init__(options, context)
        shape = context.model.shape.head_shape
        counts = context.train.target.bincount(minlength=shape.num_classes)
        self.prior = (counts / counts.sum()).log()  # (classes,); -inf for classes that train lacks
        self.names = context.model.modalities
        self.dominant = dominant({m: context.fit_unimodal(m) for m in self.names}, context)  # (run,)
        # zeros will do, because the problem is convex; one matrix per modality, because runs may differ in d
        num_runs, device = len(self.dominant), context.train.target.device
        self.heads = {
            m: nn.Parameter(torch.zeros(num_runs, dim, shape.num_classes, device=device))
            for m, dim in shape.embed_dims.items()
        }

    def parameters(self) -> list[Tensor]:
        """Weights of the dominant heads."""
        return list(self.heads.values())

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Sum of the losses of base and dominant head, `(run,)`; neither trains the other."""
        onehot = functional.one_hot(batch.target, len(self.prior)).to(self.prior.dtype)
        has_dominant = batch.present.gather(-1, self._run_index(batch.present)).squeeze(-1)  # (run, batch)
        logits = self._dominant_logits(z)  # (run, batch, classes)
        bias = self.prior + logits.detach().masked_fill(~has_dominant.unsqueeze(-1), 0)
        base = fit_loss(model.head(z, batch.present), pseudo_target(onehot, bias))
        greedy = fit_loss(logits, pseudo_target(onehot, self.prior.expand_as(logits)))
        return base.mean(-1) + mean_over(greedy, has_dominant)

    def epoch_values(self) -> dict[str, Tensor]:
        """1 for the dominant modality of each run, 0 for the others."""
        return {f"dominant_{m}": (self.dominant == i).float() for i, m in enumerate(self.names)}

    def _dominant_logits(self, z: Mapping[str, Tensor]) -> Tensor:
        """Logits of the dominant modality's head, `(run, batch, classes)`."""
        logits = [mean_over_steps(value.detach()) @ self.heads[m] for m, value in z.items()]
        stacked = torch.stack(logits, dim=-1)  # (run, batch, classes, modalities)
        return stacked.gather(-1, self._run_index(stacked)).squeeze(-1)

    def _run_index(self, values: Tensor) -> Tensor:
        """Index of the dominant modality into the last axis of `(run, ..., modalities)`."""
        return self.dominant.view(-1, *[1] * (values.ndim - 1)).expand(*values.shape[:-1], 1)


def dominant(unimodal: Mapping[str, Fitted], context: MethodContext) -> Tensor:
    """Index of the modality whose uni-modal run is correct most often, `(run,)`."""
    clips = context.val if len(context.val) > 0 else context.train
    return torch.stack([_num_correct(fitted, clips.only(m).pool_steps()) for m, fitted in unimodal.items()]).argmax(0)


def _num_correct(fitted: Fitted, clips: Clips) -> Tensor:
    """Number of clips that are classified correctly, `(run,)`."""
    if len(clips) == 0:
        return torch.zeros(len(fitted.best_epoch), dtype=torch.long, device=clips.target.device)
    return (predict_logits(fitted.model, clips).argmax(-1) == clips.target).sum(-1)


def pseudo_target(onehot: Tensor, bias: Tensor) -> Tensor:
    """Residual of the biased models, in [0, 1]; all `(run, batch, classes)`."""
    return (onehot - bias.softmax(-1)).clamp(0, 1)


def fit_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy, summed over classes: both `(run, batch, classes)` to `(run, batch)`."""
    return functional.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(-1)
