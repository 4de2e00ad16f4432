"""The dropping of a leading modality from clips (Wei et al. 2024, OPM), for methods that know how far each leads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from amr.fusion.balance import opm_keep, opm_rates, opm_scale
from amr.fusion.data.clips import Batch
from amr.fusion.methods.base import MethodContext, epoch_means
from amr.fusion.methods.stages import warm_up_epochs
from amr.fusion.model import FusionModel

RESCALED = ("concat", "sum")  # heads whose first layer is linear in z and that do not look at `present`


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


class Dropping:
    """The dropping in one training.

    Args:
        options: Settings.
        context: Context of the method.

    Attributes:
        never: Whether nothing is ever dropped.
        acts: Whether batches of this epoch may be modulated.
    """

    def __init__(self, options: OPMOptions, context: MethodContext) -> None:
        self.options, self.context = options, context
        self.never = options.q_base == 0 or options.p_exe == 0 or options.warm_up == 1
        self.acts = False
        self.rescales = options.rescale and context.model.shape.head in RESCALED
        self.seen: list[Tensor] = []  # the rates of each batch of the epoch, (modalities, run)

    def begin_epoch(self, epoch: int) -> None:
        """Act once the warm-up is over."""
        self.acts = not self.never and epoch > warm_up_epochs(self.options.warm_up, self.context.epochs)
        self.seen = []

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor], ratios: Tensor) -> Tensor:
        """Mean loss over the clips that keep a modality, `(run,)`.

        Args:
            model: Model of the run group.
            batch: Clips.
            z: Modality to its encoding.
            ratios: How far each modality leads, rho, `(modalities, run)`.
        """
        rates = opm_rates(ratios, self.options.q_base, self.options.strength)
        self.seen.append(rates)
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
        lost = batch.present.any(-1) & ~kept.any(-1)
        return self.context.task.loss_over(model.head(masked, kept), batch.target, ~lost)

    def epoch_values(self) -> dict[str, Tensor]:
        """Mean probability with which a clip of a modulated batch drops each modality; 0 if nothing is dropped."""
        model = self.context.model
        means = epoch_means(model, self.seen, otherwise=0.0)
        return {f"drop_rate_{m}": mean for m, mean in zip(model.modalities, means, strict=True)}
