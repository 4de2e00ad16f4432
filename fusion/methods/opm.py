"""On-the-fly prediction modulation (Wei et al. 2024, OPM)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from amr.fusion.data.clips import Batch
from amr.fusion.methods.base import Method, MethodContext, methods
from amr.fusion.methods.dominance import dominance_ratios
from amr.fusion.methods.dropping import Dropping, OPMOptions
from amr.fusion.model import FusionModel


@methods.register("opm")
class OPM(Method):
    """The modality that leads is dropped from some clips, more often the more it leads (Wei et al. 2024).

        s_m   = mean of softmax(out_m)_y over the clips of the batch that have m
        rho_m = s_m / mean of the other modalities' s
        q_m   = min(q_base (1 + strength tanh(rho_m - 1)), 1) if rho_m > 1, else 0
        theta = sum_m d_m q_m / sum_m d_m                                          d_m: size of z^m

    With probability p_exe, a batch is modulated: each of its clips drops m with probability q_m, and the z that are
    kept are multiplied by 1 / (1 - theta). Clips that lose all their modalities are left out of the loss; if all do, it
    is 0. out_m are the uni-modal logits (`unimodal_logits`), so any head works. No gradient flows through q.

    A dropped modality is zero and absent. So the factor is for the heads concat and sum only: others look at presence
    themselves, or are not linear in z. The source compares two modalities; rho of more is as in `ogm`. Nothing is
    dropped in its first 5 epochs, which is a share of the training here. Its AdamW has lr 5e-5 for encoders; here it is
    that of naive training. BalanceBenchmark has q_base .4, and of three modalities divides by the sum of the others, so
    that a modality rarely leads. The source's headline, with gradients modulated as well (BML), is `ogm` with opm=true.

    On a cache, unlike in `amr train-encoders`, only adapters and head learn without the leading modality.
    """

    summary = "the leading modality is dropped from clips, more often the more it leads"
    citation = "Wei et al. 2024, On-the-fly Modulation for Balanced Multimodal Learning"
    Options = OPMOptions
    needs_classes = True

    def __init__(self, options: OPMOptions, context: MethodContext) -> None:
        super().__init__(options, context)
        self.dropping = Dropping(options, context)
        self.joint = self.graph_safe = self.dropping.never

    @classmethod
    def plans_ahead(cls, options: OPMOptions) -> bool:
        """Whether there is a warm-up, which is a share of the training."""
        return options.warm_up > 0

    def begin_epoch(self, epoch: int) -> None:
        """Act once the warm-up is over."""
        self.dropping.begin_epoch(epoch)

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Mean loss over the clips that keep a modality, `(run,)`."""
        if not self.dropping.acts:
            return super().loss(model, batch, z)
        return self.dropping.loss(model, batch, z, dominance_ratios("logits", model, batch, z))

    def epoch_values(self) -> dict[str, Tensor]:
        """Mean probability with which a clip drops each modality."""
        return self.dropping.epoch_values()
