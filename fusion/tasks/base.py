"""Base of all tasks: loss, decision, measures, and which output is attributed.

Outputs of a head are `(..., clips, outputs)`. The target is `(..., clips)`, or `(..., clips, labels)` for several
labels. Leading axes, such as the run axis, pass through.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from amr.common.registry import Registry
from amr.fusion.choices import SCORES, Score
from amr.fusion.tasks.decision import Decision

if TYPE_CHECKING:
    from typing import Self


class Task:
    """Base class of tasks. One object of each, without weights, is registered under its name.

    Attributes:
        weights: Weight of each class in the loss, `(classes,)`; None for 1.
        name: Name of the task.
        summary: One line for the help.
        score: Measure by which an epoch is chosen, and whose loss is the use of a modality.
        one_class: Whether the outputs are logits of classes of which exactly one is right (softmax).
        of_logits: Whether the outputs are logits, so that parts of them which are right alone add up to a surer answer;
            numbers which are right alone add up to too much.
        is_joint: Whether the value of a clip depends on the other clips, because the score is no mean over clips.
        attributed: Outputs that can be attributed.
        num_label_axes: Number of axes of the target after that of the clips.
    """

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    score: ClassVar[Score] = SCORES["multiclass"]
    one_class: ClassVar[bool] = False
    of_logits: ClassVar[bool] = True
    is_joint: ClassVar[bool] = False
    attributed: ClassVar[tuple[str, ...]] = ("probability",)
    num_label_axes: ClassVar[int] = 0

    weights: Tensor | None = None

    def weighted(self, weights: Tensor | None) -> Self:
        """The same task with weights of the classes in its loss; None for 1."""
        task = copy(self)
        task.weights = weights
        return task

    def balancing_weights(self, target: Tensor, num_outputs: int) -> Tensor:
        """Weights that give every class the same part of the loss over these targets.

        Args:
            target: Targets of the train clips.
            num_outputs: Number of classes.
        """
        raise NotImplementedError

    def losses(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Loss of each clip, `(..., clips)`."""
        raise NotImplementedError

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Mean loss over the clips, `(...)`."""
        return self.losses(outputs, target).mean(-1)

    def loss_sums(self, outputs: Tensor, target: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of the losses of the clips, and sum of their weights; the ratio is their mean loss. Both `(...)`.

        Args:
            outputs: Outputs of a head, `(..., clips, outputs)`.
            target: Target of each clip.
            counts: Number of times that each clip counts, `(..., clips)`; True and False for once and never.
        """
        return counted_sums(self.losses(outputs, target), counts)

    def loss_over(self, outputs: Tensor, target: Tensor, counts: Tensor) -> Tensor:
        """Mean loss over the clips that count, `(...)`, with arguments as of `loss_sums`; 0 if none does."""
        return mean_of_sums(*self.loss_sums(outputs, target, counts))

    def decide(self, outputs: Tensor) -> Tensor:
        """Prediction of each clip, shaped as the target."""
        raise NotImplementedError

    def gain(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Score of all clips, `(...)`, its sign such that more is better. What it loses without a modality is use."""
        raise NotImplementedError

    def values(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Values of the clips whose mean is the gain, `(..., clips)`.

        Of a score that is no mean over clips, they are its linear approximation in the weights of the clips, so that a
        weighted mean is nearly the score under those weights (the infinitesimal jackknife, Efron 1982).
        """
        raise NotImplementedError

    def measures(self, outputs: Tensor, target: Tensor) -> dict[str, float | None]:
        """Measures of one run, for metrics.json.

        Args:
            outputs: Outputs `(clips, outputs)`.
            target: Targets of the clips.
        """
        raise NotImplementedError

    def cotangent(self, outputs: Tensor, output: str) -> Tensor:
        """Gradient of what is attributed with respect to the outputs, shaped as them."""
        raise NotImplementedError

    def attributed_value(self, outputs: Tensor, decided: Tensor, output: str) -> Tensor:
        """Value that is attributed, of the decision made with all modalities: `(..., outputs)` to `(...)`.

        Args:
            outputs: Outputs of the head.
            decided: `decided_outputs` with all modalities.
            output: Output that is attributed.
        """
        raise NotImplementedError

    def decided_outputs(self, outputs: Tensor) -> Tensor:
        """Which outputs a decision is about, as `attributed_value` needs it."""
        raise NotImplementedError

    def divergence(self, outputs: Tensor, others: Tensor) -> Tensor:
        """How far two predictions are apart: `(..., outputs)` twice to `(...)`, 0 if they are equal."""
        raise NotImplementedError

    def readable(self, outputs: Tensor) -> Tensor:
        """Outputs as people read them, shaped as `outputs`: probabilities of classes or labels, or numbers."""
        raise NotImplementedError

    def decision(self, values: Tensor, names: Sequence[str]) -> Decision:
        """Decision about one clip.

        Args:
            values: Probabilities or the number, `(outputs,)`, as `readable` gives them; a mean over folds, too.
            names: Names of the classes or labels.
        """
        raise NotImplementedError

    def truth(self, target: np.ndarray, names: Sequence[str]) -> Decision | None:
        """What is true of one clip; None if its target is not known.

        Args:
            target: Target of the clip, a row of `amr.fusion.data.targets.Targets.values`.
            names: Names of the classes or labels.
        """
        raise NotImplementedError


def counted_sums(losses: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of `loss_sums`: weighted losses, and weights. A clip of weight 0 is left out, whatever its loss."""
    weights = weights.to(losses.dtype)
    return (losses * weights).masked_fill(weights == 0, 0).sum(-1), weights.sum(-1)


def mean_of_sums(losses: Tensor, weights: Tensor) -> Tensor:
    """Mean loss from the sums of `loss_sums`, added over batches or copies if there are several; 0 without weight."""
    return losses / weights.clamp_min(torch.finfo(losses.dtype).tiny)


tasks: Registry[Task] = Registry("--task")
