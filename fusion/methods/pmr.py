"""Prototypical modality rebalance (Fan et al. 2023, PMR: Prototypical Modal Rebalance for Multimodal Learning)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from amr.common.options import check_finite, check_used
from amr.fusion.balance import class_sums, pmr_weights, prototype_logits
from amr.fusion.data.clips import Batch
from amr.fusion.methods.base import Method, MethodContext, epoch_means, mean_over, methods
from amr.fusion.methods.measure import over_clips
from amr.fusion.methods.stages import stage_epochs
from amr.fusion.model import FusionModel
from amr.fusion.run_axis.axes import at_target, mean_over_steps

SHARE_OF_ENTROPY = 10  # the entropy reward acts in one of as many parts of the training, if no number is requested


@dataclass(frozen=True)
class PMROptions:
    """Settings of PMR.

    Args:
        alpha: Weight of the prototypical cross-entropy.
        entropy: Weight of the entropy reward in the first epochs.
        entropy_epochs: Number of first epochs with the entropy reward; 0 for a tenth of the training.
        momentum: Part of the last epoch's prototypes that is kept.
        until: Share of the training after which it is naive training; 0.7 in the source's scripts.
    """

    alpha: float = 1.0
    entropy: float = 0.0
    entropy_epochs: int = 0
    momentum: float = 0.0
    until: float = 1.0

    def __post_init__(self) -> None:
        """Check the settings."""
        check_finite(self, "alpha", "entropy")
        if self.entropy_epochs < 0:
            raise ValueError(
                f"--method-option entropy_epochs must be 0 or more, got {self.entropy_epochs}. "
                "Pass entropy_epochs=0 for a tenth of the training."
            )
        check_used(self, ["entropy_epochs"], "entropy=0.1", on=self.entropy > 0)
        if not 0 <= self.momentum < 1:
            raise ValueError(
                f"--method-option momentum must be from 0 to below 1, got {self.momentum}. Pass momentum=0."
            )
        if not 0 <= self.until <= 1:
            raise ValueError(f"--method-option until must be from 0 to 1, got {self.until}. Pass until=1.")


@methods.register("pmr")
class PrototypicalRebalance(Method):
    """The encodings of a modality that is behind are pulled to the means of their classes (Fan et al. 2023).

        c^m_k = mean of z^m over the train clips of class k, in evaluation mode at the start of each epoch
        q_m   = softmax_k( -|z^m - c^m_k| ),     s_m = mean of q_m[y] over the clips of the batch that have m
        behind_m = clip( mean_{j != m} s_j / s_m - 1, 0, 1 ),    leads_m = clip( s_m / mean_{j != m} s_j - 1, 0, 1 )
        loss  = L + alpha sum_m behind_m CE(q_m, y) - entropy sum_m leads_m H(q_m)

    The last term, which keeps the leading modality unsure, acts in the first `entropy_epochs` only. For two modalities,
    the weights are the paper's beta = clip(1 / rho - 1, 0, 1) and gamma = clip(rho - 1, 0, 1), rho = s_1 / s_2. No
    gradient flows through weights and prototypes.

    The public code differs from the paper: the whole CE of the modality that is behind counts whatever the lag is,
    there is no entropy term (so its weight is 0 here by default), and prototypes are means over a tenth of the batches.
    We follow the paper, and take all train clips, which is cheap on a cache. `momentum` is the code's moving average of
    prototypes (.2 or 0 in its scripts). Distances are not squared, as in the code. The authors' figures were not
    reproduced by others.

    q_m needs no classifier and acts on z alone, so adapters or encoders feel it and the head does not. On a cache, that
    is adapters.

    The default is SGD, as in the source, with the learning rate of OGM-GE's adapters.
    """

    summary = "a modality that is behind is pulled to the class means of its encodings"
    citation = "Fan et al. 2023, PMR"
    Options = PMROptions
    needs_classes = True
    needs_adapter = True
    optimizer = "sgd"
    lr = 1e-2
    weight_decay = 1e-4
    lr_step = (70, 0.1)

    def __init__(self, options: PMROptions, context: MethodContext) -> None:
        super().__init__(options, context)
        self.joint = self.graph_safe = (options.alpha == 0 and options.entropy == 0) or options.until == 0
        self.acts, self.entropy = False, 0.0
        self.prototypes: dict[str, Tensor] = {}  # modality to (run, classes, dim)
        self.known = torch.empty(0)  # bool (modalities, classes)
        self.seen: list[Tensor] = []  # weights of each batch of the epoch, (modalities, run)

    @classmethod
    def plans_ahead(cls, options: PMROptions) -> bool:
        """Whether it, or its entropy term, acts for a share of the training."""
        return 0 < options.until < 1 or (options.entropy > 0 and options.entropy_epochs == 0)

    def begin_epoch(self, epoch: int) -> None:
        """Measure the prototypes."""
        o, self.seen = self.options, []
        self.acts = not self.joint and epoch <= stage_epochs(o.until, self.context.epochs)
        if not self.acts:
            return
        last = o.entropy_epochs or max(1, round(self.context.epochs / SHARE_OF_ENTROPY))
        self.entropy = o.entropy if epoch <= last else 0.0
        new, self.known = self._measured()
        old = self.prototypes or new
        self.prototypes = {m: (1 - o.momentum) * new[m] + o.momentum * old[m] for m in new}

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Joint loss, plus the weighted prototypical losses, `(run,)`."""
        joint = super().loss(model, batch, z)
        if not self.acts:
            return joint
        pairs = zip(z.items(), self.known, strict=True)
        logits = [prototype_logits(mean_over_steps(value), self.prototypes[m], known) for (m, value), known in pairs]
        log_q = torch.stack(logits).log_softmax(-1)  # (modalities, run, batch, classes)
        present = batch.present.movedim(-1, 0)
        log_right = at_target(log_q, batch.target)
        scores = mean_over(log_right.detach().exp(), present)  # (modalities, run)
        behind, leads = pmr_weights(scores, present.any(-1))
        self.seen.append(behind)
        loss = joint + self.options.alpha * (behind * mean_over(-log_right, present)).sum(0)
        if self.entropy == 0:
            return loss
        entropy = mean_over(-(log_q.exp() * log_q.masked_fill(log_q == -inf, 0)).sum(-1), present)
        return loss - self.entropy * (leads * entropy).sum(0)

    def epoch_values(self) -> dict[str, Tensor]:
        """Mean weight of each modality's prototypical loss over the epoch, before alpha."""
        if self.joint:
            return {}
        model = self.context.model
        means = epoch_means(model, self.seen, otherwise=0.0)
        return {f"weight_{m}": mean for m, mean in zip(model.modalities, means, strict=True)}

    def state(self) -> dict[str, Tensor]:
        """The prototypes, which momentum keeps."""
        return dict(self.prototypes)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore the prototypes."""
        self.prototypes = {m: value.to(self.context.train.target.device) for m, value in state.items()}

    def _measured(self) -> tuple[dict[str, Tensor], Tensor]:
        """Class means of each modality, `(run, classes, dim)`, and which exist, bool `(modalities, classes)`."""
        names, shape = self.context.model.modalities, self.context.model.shape.head_shape

        def sums(batch: Batch, z: Mapping[str, Tensor]) -> list[Tensor]:
            """Sums and numbers of a chunk, with an axis of one chunk."""
            present = batch.present.unbind(-1)
            pairs = zip(names, present, strict=True)
            found = [class_sums(mean_over_steps(z[m]), batch.target, has, shape.num_classes) for m, has in pairs]
            return [tensor.unsqueeze(0) for pair in found for tensor in pair]

        totals = [chunks.sum(0) for chunks in over_clips(self.context.model, self.context.train, sums, dim=0)]
        prototypes = {
            m: total / count.clamp_min(1).unsqueeze(-1)
            for m, total, count in zip(names, totals[::2], totals[1::2], strict=True)
        }
        return prototypes, torch.stack([count[0] > 0 for count in totals[1::2]])
