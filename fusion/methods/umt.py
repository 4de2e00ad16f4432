"""Uni-modal teachers (Du et al. 2021, Improving Multi-Modal Learning with Uni-Modal Teachers), and those of G2D."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf

import torch
from torch import Tensor

from amr.common.options import check_finite, check_used
from amr.fusion.balance import distillation_losses, learns_in_turn, unimodal_logits
from amr.fusion.data.clips import Batch
from amr.fusion.methods.base import NEEDS_SOFTMAX, Method, MethodContext, mean_over, methods
from amr.fusion.model import FusionModel
from amr.fusion.run_axis.axes import at_target, mean_over_steps, step_mask
from amr.fusion.tasks import Task


@dataclass(frozen=True)
class UMTOptions:
    """Settings of UMT.

    Args:
        weight: Weight of the distance to the teachers' encodings; 0 leaves it out.
        logits: Weight of the distance to the teachers' logits; 0 leaves it out. G2D has 1.
        temperature: Temperature of the softmaxes that are compared for `logits`.
        priority_epochs: Number of first epochs in which only the adapter of one modality learns, from the weakest to
            the second strongest; 0 for none. G2D has half of the training.
    """

    weight: float = 50.0
    logits: float = 0.0
    temperature: float = 1.0
    priority_epochs: int = 0

    def __post_init__(self) -> None:
        """Check the settings."""
        check_finite(self, "weight", "logits")
        check_finite(self, "temperature", above=0)
        check_used(self, ["temperature"], "logits=1", on=self.logits > 0)
        if self.priority_epochs < 0:
            raise ValueError(
                f"--method-option priority_epochs must be 0 or more, got {self.priority_epochs}. "
                "Pass priority_epochs=0 for none."
            )


@methods.register("umt")
class UniModalTeachers(Method):
    """Each modality's encoding is pulled to that of a teacher, trained on this modality only (Du et al. 2021).

        loss = task + weight sum_m MSE(z^m, t^m),    t^m = adapter of the trained uni-modal run, frozen

    MSE is the mean over dimensions and over the clips that have m. Teachers are trained first, with the same settings
    and seed, and used at their best epoch by val. The weight is 50, as in the source (BalanceBenchmark has 10). From 1
    to 50, val accuracies on CREMA-D embeddings and on synthetic clips differ no more than between seeds, and the weaker
    modality gains most at 50.

    With `logits`, the modality's part of the logits, too, is pulled to the teacher's (Rakib & Bagavathi 2025, G2D):

        loss = ... + logits sum_m T^2 KL( softmax(logits of teacher m / T), softmax(out_m / T) )

    out_m are the uni-modal logits of the head (`unimodal_logits`), so any head works, also without adapters if weight
    is 0. With `priority_epochs`, the adapters of all modalities but one get gradient 0 in these epochs. Of two
    modalities, the one that learns is that whose teacher has the lower s_m = mean softmax(teacher)_y on the batch; for
    M, the epochs are M - 1 equal turns, of the weakest first. Momentum and weight decay still move an adapter whose
    gradient is 0. G2D is weight=1 logits=1 priority_epochs=N, N half of the epochs, by SGD with momentum; its code
    zeroes the gradients of convolutions only, here all of the adapter wait, and in `train-encoders` all of the encoder.

    On a cache, unlike in `amr train-encoders`, teacher and student share the frozen encoder and differ in the adapter
    only. So a teacher can only keep the joint loss from turning the adapter away from what one modality needs.
    """

    summary = "joint training with each adapter pulled to one trained on its modality only; logits=1 pulls logits, too"
    citation = "Du et al. 2021, Uni-Modal Teacher; options of Rakib and Bagavathi 2025, G2D"
    Options = UMTOptions
    needs_adapter = True
    for_any_task = ("logits=0", "priority_epochs=0")
    fits_unimodal = True

    def __init__(self, options: UMTOptions, context: MethodContext) -> None:
        super().__init__(options, context)
        if options.priority_epochs >= context.epochs:
            raise ValueError(
                f"--method-option priority_epochs must be below the {context.epochs} epochs of the training, so that "
                f"every modality learns, got {options.priority_epochs}. Pass --method-option "
                f"priority_epochs={context.epochs // 2}."
            )
        acts = options.weight > 0 or options.logits > 0 or options.priority_epochs > 0
        modalities = context.model.modalities if acts else ()
        self.teachers = {m: context.fit_unimodal(m).model.eval().requires_grad_(False) for m in modalities}
        self.turn: int | None = None  # None: all adapters learn
        self.learns = torch.empty(0)  # (modalities, run), of the last batch
        self.graph_safe = options.priority_epochs == 0

    @classmethod
    def acts_on_adapters(cls, options: UMTOptions) -> bool:
        """Whether anything but logits is taught."""
        return options.logits == 0 or options.weight > 0 or options.priority_epochs > 0

    @classmethod
    def unfit(cls, options: UMTOptions, task: Task) -> str:
        """Softmaxes of teachers are compared, with each other or with the student's."""
        return "" if task.one_class or not (options.logits > 0 or options.priority_epochs > 0) else NEEDS_SOFTMAX

    def begin_epoch(self, epoch: int) -> None:
        """Set whose turn it is; with one modality, nobody has to wait."""
        turns, epochs = len(self.teachers) - 1, self.options.priority_epochs
        self.turn = (epoch - 1) * turns // epochs if turns > 0 and epoch <= epochs else None

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Task loss plus the weighted distances to the teachers, `(run,)`."""
        loss, o = super().loss(model, batch, z), self.options
        for i, (m, teacher) in enumerate(self.teachers.items() if o.weight > 0 else ()):
            distance = (z[m] - teacher.encode(batch.only(m))[m]).square()  # (run, batch, [steps,] dim)
            loss = loss + o.weight * mean_over(_per_clip(distance, z[m]), batch.present[..., i])
        if o.logits > 0 or self.turn is not None:
            taught, present = self._taught(batch), batch.present.movedim(-1, 0)
            if self.turn is not None:
                self.learns = learns_in_turn(teacher_scores(taught, batch), self.turn)
            if o.logits > 0:
                out = unimodal_logits(model.head, z, batch.present)
                distances = mean_over(distillation_losses(out, taught, o.temperature), present)
                loss = loss + o.logits * distances.sum(0)
        return loss

    def adjust(self, gradients: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Zero the gradients of adapters that wait for their turn."""
        if self.turn is None:
            return gradients
        adjusted = dict(gradients)
        for m, learns in zip(self.context.model.modalities, self.learns, strict=True):
            for name in (name for name in gradients if name.startswith(f"adapters.{m}.")):
                g = gradients[name]
                adjusted[name] = g * learns.view(-1, *[1] * (g.ndim - 1))
        return adjusted

    def _taught(self, batch: Batch) -> Tensor:
        """Logits of the teachers, `(modalities, run, batch, classes)`. They were trained on the means over steps."""
        if not self.context.model.trains_encoders:
            batch = replace(batch, embeddings={m: mean_over_steps(e) for m, e in batch.embeddings.items()})
        with torch.no_grad():
            return torch.stack([teacher(batch.only(m)) for m, teacher in self.teachers.items()])


def teacher_scores(taught: Tensor, batch: Batch) -> Tensor:
    """Mean s_m of the target's probability over the clips that have m: `(modalities, run, batch, classes)` to
    `(modalities, run)`. A modality that no clip of the batch has counts as the strongest.
    """
    p_target, present = at_target(taught.softmax(-1), batch.target), batch.present.movedim(-1, 0)
    return mean_over(p_target, present).masked_fill(~present.any(-1), inf)


def _per_clip(distance: Tensor, z: Tensor) -> Tensor:
    """Mean over the dimensions and valid steps of z: `(run, batch, [steps,] dim)` to `(run, batch)`."""
    if distance.ndim == 3:
        return distance.mean(-1)
    return distance.mean(-1).sum(-1) / step_mask(z).sum(-1).clamp_min(1)
