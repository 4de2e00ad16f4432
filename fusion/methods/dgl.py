"""Disentangled gradient learning (Wei et al. 2025, DGL)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from amr.common.options import check_finite
from amr.fusion.balance import dgl_loss
from amr.fusion.data.clips import Batch
from amr.fusion.methods.base import Method, methods
from amr.fusion.model import FusionModel


@dataclass(frozen=True)
class DGLOptions:
    """Settings of DGL.

    Args:
        alpha: Factor of the adapters' gradient; adamw and adamax cancel it.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        """Check the settings."""
        check_finite(self, "alpha", above=0)


@methods.register("dgl")
class DGL(Method):
    """The head learns from the joint loss, and each adapter from the loss of its own modality (Wei et al. 2025).

        adapters:  gradient of alpha sum_m L_m     the head is a constant
        head:      gradient of L                   all z are constants

    The source's argument: in joint training, what reaches the encoder of m through the head shrinks with what the other
    modality already explains. L is the loss of the joint logits, L_m the mean loss of out_m over the clips that have m.
    out_m are the uni-modal logits of the head (`unimodal_logits`), so any head works; in a head that is not additive,
    they depend on the other modalities, too. The authors' code takes the fusion layer's own path of m, discards what
    L_m would do to that layer, and so computes the same.

    Alpha only scales the adapters' learning rate, which Adam cancels, so the default is 1 and the optimizer that of
    naive training. The authors' code has SGD with alpha 4 to 5 on CREMA-D and 2 to 3 on Kinetics-Sounds. No alpha is
    naive training: at 0, adapters would not learn. The attribution regularizer never reaches adapters, so the two do
    not touch each other.

    On a cache, unlike in `amr train-encoders`, it is about adapters, not encoders.
    """

    summary = "adapters learn from their modality's loss alone, the head from the joint loss alone"
    citation = "Wei et al. 2025, Boosting Multimodal Learning via Disentangled Gradient Learning"
    Options = DGLOptions
    needs_adapter = True
    graph_safe = True

    @classmethod
    def trains_parts(cls, options: DGLOptions) -> bool:
        """Adapters learn from nothing else."""
        return True

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Joint loss plus the weighted losses of the modalities, `(run,)`, each with a gradient for its part only."""
        return dgl_loss(model.head, z, batch.target, batch.present, self.options.alpha, self.context.task)
