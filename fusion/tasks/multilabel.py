"""Any number of labels per clip: a sigmoid and binary cross-entropy for each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from amr.fusion.choices import HALF, SCORES
from amr.fusion.tasks.base import Task, tasks
from amr.fusion.tasks.decision import Decision
from amr.fusion.tasks.divergence import bernoulli_jensen_shannon
from amr.fusion.tasks.metrics import (
    exact_match,
    label_average_precision,
    label_average_precision_values,
    label_f1,
)


class Multilabel(Task):
    """Several labels, of which a clip has any number."""

    name = "multilabel"
    summary = "any number of labels per clip"
    score = SCORES["multilabel"]
    is_joint = True
    num_label_axes = 1
    attributed = ("probability", "logit")

    def balancing_weights(self, target: Tensor, num_outputs: int) -> Tensor:
        """Number of clips without the label over the number with it; 0 for a label without a clip."""
        counts = target.sum(0)
        return torch.where(counts > 0, (len(target) - counts) / counts, 0)

    def losses(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Mean binary cross-entropy over the labels; with weights, a label that a clip has is weighted by its own."""
        target = target.expand_as(outputs)
        return functional.binary_cross_entropy_with_logits(
            outputs, target, pos_weight=self.weights, reduction="none"
        ).mean(-1)

    def decide(self, outputs: Tensor) -> Tensor:
        """Labels with a probability above one half: 0 or 1."""
        return (outputs > 0).to(outputs.dtype)

    def gain(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Mean average precision."""
        runs = outputs.flatten(0, -3) if outputs.ndim > 2 else outputs[None]
        values = [label_average_precision(each, target)[0] for each in runs]
        return torch.tensor(values, dtype=torch.float64, device=outputs.device).view(outputs.shape[:-2])

    def values(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Mean average precision, linear in the weights of the clips."""
        runs = outputs.flatten(0, -3) if outputs.ndim > 2 else outputs[None]
        values = torch.stack([label_average_precision_values(each, target) for each in runs])
        return values.to(outputs).view(outputs.shape[:-1])

    def measures(self, outputs: Tensor, target: Tensor) -> dict[str, float | None]:
        """Exact matches, mAP, macro F1 over labels, and the number of labels that mAP leaves out."""
        average_precision, left_out = label_average_precision(outputs, target)
        return {
            "accuracy": exact_match(outputs, target),
            "map": average_precision,
            "f1": label_f1(outputs, target),
            "num_classes_without_clips": left_out,
        }

    def cotangent(self, outputs: Tensor, output: str) -> Tensor:
        """1 for each predicted label: the log-odds of a label is its output."""
        return self.decided_outputs(outputs)

    def decided_outputs(self, outputs: Tensor) -> Tensor:
        """Predicted labels, 0 or 1; the most probable one where none is above one half."""
        decided = self.decide(outputs)
        best = torch.zeros_like(outputs).scatter_(-1, outputs.max(-1, keepdim=True).indices, 1)
        return torch.where(decided.any(-1, keepdim=True), decided, best)

    def attributed_value(self, outputs: Tensor, decided: Tensor, output: str) -> Tensor:
        """Sum of the log-odds of the predicted labels."""
        return (outputs * decided).sum(-1)

    def divergence(self, outputs: Tensor, others: Tensor) -> Tensor:
        """Mean over labels of the Jensen-Shannon divergence of the two Bernoulli distributions, in nats."""
        return bernoulli_jensen_shannon(outputs, others).mean(-1)

    def readable(self, outputs: Tensor) -> Tensor:
        """Probabilities of the labels."""
        return outputs.sigmoid()

    def decision(self, values: Tensor, names: Sequence[str]) -> Decision:
        """Labels with a probability above one half."""
        probabilities = dict(zip(names, values.tolist(), strict=True))
        return Decision.of_labels(tuple(name for name, value in probabilities.items() if value > HALF), probabilities)

    def truth(self, target: np.ndarray, names: Sequence[str]) -> Decision | None:
        """Labels of the clip."""
        if np.isnan(target).any():
            return None
        return Decision.of_labels(tuple(name for name, has in zip(names, target, strict=True) if has), {})


MULTILABEL = Multilabel()
tasks.register("multilabel")(MULTILABEL)
