"""The settings that a frontier compares: fits with a regularizer, and controls that need none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from amr.common.options import number_text
from amr.fusion.attribution.ratio import named_ratio, ratios
from amr.fusion.config import FitConfig
from amr.fusion.evaluate.references.scaling import factors_of
from amr.fusion.frontier.config import FrontierConfig

PLAIN, NOISE, DECAY, UME, SCALING = "plain", "embedding noise", "weight decay", "weighted UME", "modality scaling"
CONTROLS = (NOISE, DECAY, UME, SCALING)
WEIGHTS = (0.1, 0.3, 1.0)  # amr_weight
NOISES = (0.5, 1.0, 2.0)  # deviations
DECAYS = (1.0, 5.0, 10.0)  # of AdamW: times the learning rate at each step


@dataclass(frozen=True)
class Setting:
    """One point of a frontier.

    Args:
        kind: Plain, an attribution, or a control.
        curve: Name of its curve in pictures.
        label: Text that distinguishes it from all others.
        config: Settings of its fits, seed 0; None if it is a plain head that is changed after training.
        factors: Modality to the factor of its part of the plain head's logits; only for modality scaling.
    """

    kind: str
    curve: str
    label: str
    config: FitConfig | None
    factors: tuple[float, ...] = ()

    @property
    def has_ratio(self) -> bool:
        """Whether it favors modalities by a ratio."""
        return self.kind not in (PLAIN, NOISE, DECAY)

    @property
    def is_control(self) -> bool:
        """Whether it does without the regularizer."""
        return self.kind in CONTROLS


def settings_of(config: FrontierConfig, modalities: Sequence[str]) -> list[Setting]:
    """Settings of a frontier, the plain one first.

    Args:
        config: Options of the frontier.
        modalities: Modalities of the fits, in order.
    """
    plain = config.fit
    named = [named_ratio(ratio, modalities) for ratio in ratios(len(modalities))]
    settings = [Setting(PLAIN, PLAIN, PLAIN, plain)]
    for attribution in config.attributions:
        settings += [
            Setting(
                attribution,
                f"{attribution}, weight {number_text(weight)}",
                f"{attribution} {ratio} weight {number_text(weight)}",
                replace(plain, attribution=attribution, amr_ratio=ratio, amr_weight=weight),
            )
            for weight in WEIGHTS
            for ratio in named
        ]
    for noise in map(number_text, NOISES):
        settings.append(Setting(NOISE, NOISE, f"{NOISE} {noise}", replace(plain, embedding_noise=noise)))
    for decay in DECAYS:
        settings.append(Setting(DECAY, DECAY, f"{DECAY} {number_text(decay)}", replace(plain, weight_decay=decay)))
    if config.task == "multiclass":  # UME is a mean of softmaxes
        any_head = replace(plain, head=FitConfig.head, head_option=(), hidden=0, experts=False, condition=None)
        ume = replace(any_head, method="ume", method_option=(), recipe=None)
        for ratio in named:
            options = (f"weights={ratio}",)
            settings.append(Setting(UME, UME, f"{UME} {ratio}", replace(ume, method_option=options)))
    for ratio, factors in factors_of(modalities).items():
        settings.append(Setting(SCALING, SCALING, f"{SCALING} {ratio}", None, factors))
    return settings
