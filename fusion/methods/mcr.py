"""Multimodal competition regularizer (Kontras et al. 2025, MCR)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from amr.common.options import check_finite
from amr.fusion.balance import class_contrast, modality_losses, permutation_divergence, unimodal_logits
from amr.fusion.data.clips import Batch
from amr.fusion.methods.base import Method, MethodContext, methods
from amr.fusion.model import FusionModel
from amr.fusion.run_axis.axes import mean_over_steps
from amr.fusion.tasks import Task

GAMES = {"collaborative": 1.0, "independent": 0.0, "greedy": -1.0}  # factor of the gradient in the others' z


@dataclass(frozen=True)
class MCROptions:
    """Settings of MCR.

    Args:
        weight: Weight of the divergences if a modality is permuted, l in the paper.
        unimodal: Weight of the losses of the modalities, mu in the paper.
        contrast: Weight of the contrastive loss between z of two modalities. It is 1 in the source, and needs z of one
            size that something trains: adapters or encoders.
        orders: Number of permutations per batch; 32 in the source.
        game: What the z of the other modalities does to a modality's divergence: collaborative raises it, greedy lowers
            it, independent leaves it.
    """

    weight: float = 0.01
    unimodal: float = 0.01
    contrast: float = 0.0
    orders: int = 1
    game: str = "collaborative"

    def __post_init__(self) -> None:
        """Check the settings."""
        check_finite(self, "weight", "unimodal", "contrast")
        if self.orders < 1:
            raise ValueError(f"--method-option orders must be 1 or more, got {self.orders}. Pass orders=1.")
        if self.game not in GAMES:
            raise ValueError(
                f"--method-option game must be one of {', '.join(GAMES)}, got {self.game!r}. Pass game=collaborative."
            )


@methods.register("mcr")
class MCR(Method):
    """Predictions are to depend on every modality (Kontras et al. 2025, section 3).

        loss   = L + unimodal sum_m L_m + contrast C - weight sum_m MIPD_m
        MIPD_m = E_pi JS( softmax f(z), softmax f(z^{-m}, z^m_{pi(i)}) )        pi: a permutation of the batch
        C      = sum over m < n of NT-Xent(z^m, z^n), clips of one class positive, temperature 0.5

    MIPD_m is how far a prediction moves if a modality comes from another clip; unlike the attribution `permutation`,
    it is raised, not brought to a ratio, and its gradient reaches adapters. In a game, a modality is a player that
    raises its own MIPD_m by its adapter. By their adapters, the others raise it too (collaborative, the source's
    "max"), leave it (independent) or lower it (greedy). The head raises every MIPD_m in all games. L_m is the loss of
    out_m, the uni-modal logits of the head (`unimodal_logits`); the source has a classifier per modality.

    The source's loss also predicts z from the prediction (CEB), which is for encoders and left out. Its released class
    for two modalities computes the regularizer and returns the loss without it; those for three add it, as the paper
    says. With all weights 0 it is naive training.

    On a cache without adapters it acts on the head alone, and all games are the same.
    """

    summary = "predictions must move if a modality comes from another clip; uni-modal losses"
    citation = "Kontras et al. 2025, Balancing Multimodal Training Through Game-Theoretic Regularization"
    Options = MCROptions

    def __init__(self, options: MCROptions, context: MethodContext) -> None:
        super().__init__(options, context)
        self.joint = options.weight == options.unimodal == options.contrast == 0
        self.graph_safe = options.weight == 0
        if options.contrast > 0:
            _check_contrast(options, context)

    @classmethod
    def unfit(cls, options: MCROptions, task: Task) -> str:
        """Numbers may move without end if a modality is permuted; answers of classes and labels cannot."""
        if options.weight > 0 and not task.of_logits:
            return "how far numbers move if a modality is permuted has no bound, and this is what it raises"
        return super().unfit(options, task)

    @classmethod
    def trains_parts(cls, options: MCROptions) -> bool:
        """Whether there are losses of the modalities."""
        return options.unimodal > 0

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Joint loss, and the weighted terms of those weights that are above 0, `(run,)`."""
        o, task = self.options, self.context.task
        loss = super().loss(model, batch, z)
        if o.unimodal > 0:
            out = unimodal_logits(model.head, z, batch.present)
            loss = loss + o.unimodal * modality_losses(out, batch.target, batch.present, task).sum(0)
        if o.contrast > 0:
            pooled = [mean_over_steps(value) for value in z.values()]
            for i, j in combinations(range(len(pooled)), 2):
                both = batch.present[..., i] & batch.present[..., j]
                loss = loss + o.contrast * class_contrast(pooled[i], pooled[j], batch.target, both)
        if o.weight > 0:
            loss = loss - o.weight * self._divergence(model, batch, z)
        return loss

    def _divergence(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Sum of MIPD_m over the modalities, its mean over the permutations, `(run,)`."""
        o, num_clips = self.options, batch.present.shape[1]
        total = torch.zeros(len(batch.present), device=batch.present.device)
        for _ in range(o.orders):
            order = self.context.noise.uniform(num_clips).argsort(-1)
            moved = permutation_divergence(model.head, z, order, batch.present, self.context.task, GAMES[o.game])
            total = total + moved.sum(0) / o.orders
        return total


def _check_contrast(options: MCROptions, context: MethodContext) -> None:
    dims = set(context.model.shape.head_shape.embed_dims.values())
    if not context.model.adapters or len(dims) > 1 or not context.task.one_class:
        rule = (
            "with adapters or encoders, whose z have one size"
            if context.task.one_class
            else f"for classes, not for {context.task.name}"
        )
        raise ValueError(
            f"--method-option contrast must be above 0 only {rule}, got {options.contrast}. Pass contrast=0."
        )
