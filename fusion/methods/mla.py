"""Alternating uni-modal adaptation (Zhang et al. 2024, Multimodal Representation Learning by Alternating ..., MLA)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor

from amr.fusion.balance import updated_projection
from amr.fusion.data.clips import Batch
from amr.fusion.heads.shared import MLAOptions, SharedHead
from amr.fusion.methods.base import Method, MethodContext, mean_over, methods
from amr.fusion.model import FusionModel

CLASSIFIER = "head.classifier.weight"


@methods.register("mla")
class AlternatingAdaptation(Method):
    """Modalities take turns on each batch, with one classifier for all (Zhang et al. 2024).

        for each batch, for each m in turn: one optimizer step of adapter m and of W, b on L_m = CE(W z^m + b, y)
            grad_W <- grad_W P                                    P, at first the identity
            then P <- P - (P r)(P r)^T / (damping + r^T P r),     r = mean of z^m over the clips that have m
        answer: logits = sum_m w_m (W z^m + b),                   w_m by the entropy of each modality's own answer

    So what W learns from one modality does not undo what it answers for the means of others (recursive least squares,
    as in OWM, Zeng et al. 2019). P then keeps the Frobenius norm of the identity (`updated_projection`). damping falls
    from .1 to .01 over an epoch. Adapters of the other modalities are not touched in a turn. z is encoded once per
    batch. There is no joint loss: the answer is the mean of uni-modal answers, weighted for each clip (`SharedHead`).

    The public code never projects: it looks for a parameter named "module.weight", and that of the classifier is
    "weight". That is projection=false here. It scales P to norm 1, which would also make the gradient smaller, and
    updates P before it projects, by the mean of the same clips. Its entropies are over a batch in place of classes, so
    that an answer depends on the other clips of the batch. Fixed weights (.5 and .5 in the code) are answer=even.

    All z must have one size, so adapters are needed on a cache. There they adapt, and encoders do not.
    """

    summary = "modalities take turns on each batch, with one classifier for all and no joint loss"
    citation = "Zhang et al. 2024, MLA"
    Options = MLAOptions
    head = "mla"
    fuses = False
    needs_classes = True
    needs_adapter = True
    optimizer = "sgd"
    lr = 1e-2
    weight_decay = 1e-4
    lr_step = (70, 0.1)

    def __init__(self, options: MLAOptions, context: MethodContext) -> None:
        super().__init__(options, context)
        self.num_turns = len(context.model.modalities)
        self.turn = 0
        self.num_seen = self.num_clips = 0  # clips of the epoch before this batch, and of this batch
        weight = cast("SharedHead", context.model.head).classifier.weight  # (run, classes, dim)
        self.projection = torch.eye(weight.shape[-1], device=weight.device).repeat(len(weight), 1, 1)
        self.mean = torch.empty(0)  # r of the last turn, (run, dim)

    def begin_epoch(self, epoch: int) -> None:
        """Begin with the largest damping."""
        self.num_seen = 0

    def begin_turn(self, turn: int) -> None:
        """Set which modality learns."""
        self.turn = turn

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Loss of the modality whose turn it is, over the clips that have it, `(run,)`."""
        present, encoding = batch.present[..., self.turn], z[model.modalities[self.turn]]
        with torch.no_grad():
            self.mean = mean_over(encoding.mT, present.unsqueeze(-2))
        self.num_clips = batch.target.shape[1]
        out = cast("SharedHead", model.head).classifier(encoding)
        return self.context.task.loss_over(out, batch.target, present)

    def adjust(self, gradients: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Leave out the other adapters, and project the gradient of the shared classifier."""
        own = f"adapters.{self.context.model.modalities[self.turn]}."
        adjusted = {name: g for name, g in gradients.items() if name.startswith((own, "head."))}
        if self.options.projection:
            adjusted[CLASSIFIER] = gradients[CLASSIFIER] @ self.projection
            progress = self.num_seen / max(len(self.context.train), 1)
            self.projection = updated_projection(self.projection, self.mean, 0.1 ** (1 + progress))
        if self.turn == self.num_turns - 1:
            self.num_seen += self.num_clips
        return adjusted

    def state(self) -> dict[str, Tensor]:
        """The projection."""
        return {"projection": self.projection}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore the projection."""
        self.projection = state["projection"].to(self.projection.device)
