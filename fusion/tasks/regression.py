"""A number per clip, in deviations of the train clips: squared or absolute error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from amr.fusion.choices import SCORES
from amr.fusion.tasks.base import Task, tasks
from amr.fusion.tasks.decision import Decision
from amr.fusion.tasks.metrics import sentiment_scores


class Regression(Task):
    """One number. Head and target are in units of the train deviation, above the train mean.

    Args:
        absolute: Whether the loss is the absolute error, not the squared one.
    """

    name = "regression"
    summary = "a number per clip"
    score = SCORES["regression"]
    of_logits = False
    attributed = ("probability", "logit")

    def __init__(self, *, absolute: bool = False) -> None:
        self.absolute = absolute

    def losses(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Squared or absolute error."""
        errors = outputs.squeeze(-1) - target
        return errors.abs() if self.absolute else errors.square()

    def decide(self, outputs: Tensor) -> Tensor:
        """The number."""
        return outputs.squeeze(-1)

    def gain(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Minus the mean absolute error."""
        return -(outputs.squeeze(-1) - target).abs().double().mean(-1)

    def values(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Minus the absolute error."""
        return -(outputs.squeeze(-1) - target).abs()

    def measures(self, outputs: Tensor, target: Tensor) -> dict[str, float | None]:
        """MAE, Pearson's correlation, and the sentiment field's Acc-2, Acc-7 and F1 where the target has its scale."""
        predicted, truth = (x.double().cpu().numpy() for x in (outputs.squeeze(-1), target))
        constant = min(np.ptp(predicted), np.ptp(truth)) == 0 if len(truth) else True
        return {
            "mae": float(np.abs(predicted - truth).mean()),
            "pearson": None if constant else float(np.corrcoef(predicted, truth)[0, 1]),
            **sentiment_scores(predicted, truth),
        }

    def cotangent(self, outputs: Tensor, output: str) -> Tensor:
        """1: the number itself is attributed."""
        return torch.ones_like(outputs)

    def decided_outputs(self, outputs: Tensor) -> Tensor:
        """All outputs, of which there is one."""
        return torch.ones_like(outputs)

    def attributed_value(self, outputs: Tensor, decided: Tensor, output: str) -> Tensor:
        """The number."""
        return outputs.squeeze(-1)

    def divergence(self, outputs: Tensor, others: Tensor) -> Tensor:
        """Squared difference, in units of the train deviation."""
        return (outputs - others).square().squeeze(-1)

    def readable(self, outputs: Tensor) -> Tensor:
        """The number, in units of the train deviation."""
        return outputs

    def decision(self, values: Tensor, names: Sequence[str]) -> Decision:
        """The number."""
        return Decision.of_number(values.item())

    def truth(self, target: np.ndarray, names: Sequence[str]) -> Decision | None:
        """Number of the clip, with the digits that the cache has: the shortest text of a 32-bit number."""
        return None if np.isnan(target) else Decision.of_number(float(str(np.float32(target))))


REGRESSION = Regression()
tasks.register("regression")(REGRESSION)
REGRESSION_L1 = Regression(absolute=True)
