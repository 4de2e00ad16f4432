"""One class per clip: softmax and cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from amr.common.registry import unknown
from amr.fusion.choices import OUTPUTS
from amr.fusion.run_axis.axes import at_target, log_softmax
from amr.fusion.tasks.base import Task, counted_sums, tasks
from amr.fusion.tasks.decision import Decision
from amr.fusion.tasks.divergence import jensen_shannon
from amr.fusion.tasks.metrics import accuracy, balanced_accuracy, macro_f1, mean_average_precision


class Multiclass(Task):
    """One of several classes."""

    name = "multiclass"
    summary = "one class per clip"
    one_class = True
    attributed = OUTPUTS

    def balancing_weights(self, target: Tensor, num_outputs: int) -> Tensor:
        """n / (classes n_c), scikit-learn's `balanced`; 0 for a class without a clip."""
        counts = target.bincount(minlength=num_outputs).float()
        return torch.where(counts > 0, len(target) / (num_outputs * counts), 0)

    def losses(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy; with weights, that of a clip is weighted by its class, in units of the mean weight.

        The mean over a batch is then PyTorch's weighted mean.
        """
        losses = cross_entropies(outputs, target)
        if self.weights is None:
            return losses
        of_clips = self.weights[target]
        return losses * of_clips / of_clips.mean(-1, keepdim=True)

    def loss_sums(self, outputs: Tensor, target: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """The weights of the clips that count are those of their classes."""
        weights = counts if self.weights is None else counts * self.weights[target]
        return counted_sums(cross_entropies(outputs, target), weights)

    def decide(self, outputs: Tensor) -> Tensor:
        """The most probable class."""
        return outputs.argmax(-1)

    def gain(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Accuracy."""
        return accuracy(outputs, target)

    def values(self, outputs: Tensor, target: Tensor) -> Tensor:
        """1 where the predicted class is right."""
        return (outputs.argmax(-1) == target).to(outputs.dtype)

    def measures(self, outputs: Tensor, target: Tensor) -> dict[str, float | None]:
        """Accuracy, mAP, macro F1, balanced accuracy, and the number of classes that mAP leaves out."""
        average_precision, left_out = mean_average_precision(outputs, target)
        return {
            "accuracy": float(accuracy(outputs, target)),
            "map": average_precision,
            "f1": macro_f1(outputs, target),
            "balanced_accuracy": balanced_accuracy(outputs, target),
            "num_classes_without_clips": left_out,
        }

    def cotangent(self, outputs: Tensor, output: str) -> Tensor:
        """See `output_cotangent`."""
        return output_cotangent(outputs, output)

    def decided_outputs(self, outputs: Tensor) -> Tensor:
        """Predicted class, `(..., 1)`."""
        return outputs.argmax(-1, keepdim=True)

    def attributed_value(self, outputs: Tensor, decided: Tensor, output: str) -> Tensor:
        """See `output_value`."""
        return output_value(outputs, decided, output)

    def divergence(self, outputs: Tensor, others: Tensor) -> Tensor:
        """Jensen-Shannon divergence of the two softmaxes, in nats."""
        return jensen_shannon(outputs, others)

    def readable(self, outputs: Tensor) -> Tensor:
        """Probabilities of the classes."""
        return outputs.softmax(-1)

    def decision(self, values: Tensor, names: Sequence[str]) -> Decision:
        """The most probable class."""
        probabilities = dict(zip(names, values.tolist(), strict=True))
        best = names[int(values.argmax())]
        return Decision(best, probabilities[best], probabilities)

    def truth(self, target: np.ndarray, names: Sequence[str]) -> Decision | None:
        """Class of the clip."""
        return None if target < 0 else Decision(names[int(target)])


def cross_entropies(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of each clip, `(..., clips)`."""
    return -at_target(log_softmax(logits), target)


MULTICLASS = Multiclass()
tasks.register("multiclass")(MULTICLASS)


def output_cotangent(logits: Tensor, output: str = "probability") -> Tensor:
    """Cotangent: gradient of the output with respect to the logits (PyTorch's grad_outputs), `(..., clips, classes)`.

    `probability` uses the log-odds of the predicted class, f_c - logsumexp of the other logits. The gradient of the
    probability itself is p_c (1 - p_c) times that. The factor cancels in shares, but underflows if the head is certain.
    `logit` is f_c, and `centered` is f_c minus the mean logit. The predicted class is a constant.

    >>> output_cotangent(torch.tensor([[2.0, 0.0, 0.0]]))
    tensor([[ 1.0000, -0.5000, -0.5000]])
    """
    if output not in OUTPUTS:
        raise unknown("output", output, OUTPUTS)
    best = logits.max(-1, keepdim=True).indices  # argmax is slow on a CPU if the classes are not last in memory
    predicted = torch.zeros_like(logits).scatter_(-1, best, 1)
    if output == "logit":
        return predicted
    if output == "centered":
        return predicted - 1 / logits.shape[-1]
    return predicted - log_softmax(logits.scatter(-1, best, -torch.inf)).exp()


def output_value(logits: Tensor, predicted: Tensor, output: str) -> Tensor:
    """Log p, logit, or centered logit of the class `predicted`, `(..., 1)`: `(..., classes)` to `(...)`."""
    if output not in OUTPUTS:
        raise unknown("output", output, OUTPUTS)
    if output == "probability":
        logits = logits.log_softmax(-1)
    elif output == "centered":
        logits = logits - logits.mean(-1, keepdim=True)
    return logits.gather(-1, predicted).squeeze(-1)
