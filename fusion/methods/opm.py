"""On-the-fly prediction modulation (Wei et al. 2024, OPM)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from amr.fusion.balance import opm_keep, opm_rates, opm_scale, score_ratios, unimodal_logits
from amr.fusion.data.clips import Batch
from amr.fusion.methods.base import Method, MethodContext, mean_over, methods
from amr.fusion.model import FusionModel

RESCALED = ("concat", "sum")  # heads whose features are linear in z and that do not look at `present`


@dataclass(frozen=True)
class OPMOptions:
    """Settings of OPM.

    Args:
        q_base: Probability that a clip drops a modality which leads by little; 0 is naive training.
        strength: Share by which this probability grows with the lead.
        p_exe: Probability that a batch is modulated at all; 0 is naive training.
        warm_up: Share of the epochs that are naive training, before anything is dropped; 1 is naive training.
        rescale: Whether heads concat and sum get what is kept enlarged by the part that is dropped on average; other
            heads never do.
    """

    q_base: float = 0.5
    strength: float = 0.5
    p_exe: float = 0.7
    warm_up: float = 0.05
    rescale: bool = True

    def __post_init__(self) -> None:
        """Check the settings."""
        for name, default in (("q_base", 0.5), ("strength", 0.5), ("p_exe", 0.7), ("warm_up", 0.05)):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"--method-option {name} must be from 0 to 1, got {value}. Pass {name}={default}.")


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
    that a modality rarely leads.

    On a cache, unlike in `amr train-encoders`, only adapters and head learn without the leading modality.
    """

    summary = "the leading modality is dropped from clips, more often the more it leads"
    citation = "Wei et al. 2024, On-the-fly Modulation for Balanced Multimodal Learning"
    Options = OPMOptions
    needs_classes = True

    def __init__(self, options: OPMOptions, context: MethodContext) -> None:
        super().__init__(options, context)
        self.joint = self.graph_safe = options.q_base == 0 or options.p_exe == 0 or options.warm_up == 1
        self.acts = False
        self.rescales = options.rescale and context.model.shape.head in RESCALED
        self.seen: list[Tensor] = []  # the rates of each batch of the epoch, (modalities, run)

    @classmethod
    def plans_ahead(cls, options: OPMOptions) -> bool:
        """Whether there is a warm-up, which is a share of the training."""
        return options.warm_up > 0

    def begin_epoch(self, epoch: int) -> None:
        """Act once the warm-up is over."""
        self.acts = not self.joint and epoch - 1 >= self.options.warm_up * self.context.epochs
        self.seen = []

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Mean cross-entropy over the clips that keep a modality, `(run,)`."""
        if not self.acts:
            return super().loss(model, batch, z)
        rates = self._rates(model, batch, z)
        self.seen.append(rates.detach())
        noise = self.context.noise
        executes = noise.uniform(1).squeeze(-1) < self.options.p_exe  # (run,)
        rates = rates * executes
        kept = opm_keep(rates, noise.uniform(*batch.present.shape[1:]), batch.present)
        dims = [value.shape[-1] for value in z.values()]
        scale = opm_scale(rates, dims) if self.rescales else torch.ones_like(rates[0])
        masked = {}
        for i, (m, value) in enumerate(z.items()):
            factor = kept[..., i] * scale.unsqueeze(-1)  # (run, batch)
            masked[m] = value * factor.view(*factor.shape, *[1] * (value.ndim - 2))
        losses = self.context.task.losses(model.head(masked, kept), batch.target)
        lost = batch.present.any(-1) & ~kept.any(-1)
        return mean_over(losses, ~lost)

    @torch.no_grad()
    def _rates(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Probability with which a clip drops each modality, `(modalities, run)`."""
        ratios = score_ratios(unimodal_logits(model.head, z, batch.present), batch.target, batch.present)
        return opm_rates(ratios, self.options.q_base, self.options.strength)

    def epoch_values(self) -> dict[str, Tensor]:
        """Mean probability with which a clip of a modulated batch drops each modality; 0 if the method does not act."""
        model = self.context.model
        first = next(model.parameters())
        none = torch.zeros(len(model.modalities), len(first), device=first.device)
        means = torch.stack(self.seen).mean(0) if self.seen else none
        return {f"drop_rate_{m}": mean for m, mean in zip(model.modalities, means, strict=True)}
