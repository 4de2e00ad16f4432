"""Settings of OGM-GE and of what is published as an extension of it: BML and MLB."""

from __future__ import annotations

from dataclasses import dataclass, fields

from amr.common.options import check_finite, check_used
from amr.common.registry import unknown
from amr.fusion.methods.dominance import DOMINANCE
from amr.fusion.methods.dropping import OPMOptions


@dataclass(frozen=True)
class GradientOptions:
    """Settings of the factors of gradients.

    Args:
        alpha: Strength with which the leading modality is held back; 0 scales nothing and adds no noise.
        start_epoch: First epoch in which gradients are modulated, counted from 1.
        end_epoch: Epoch from which they no longer are.
        dominance: How the leading modality is found: logits, by the probability of the right class; share, by the share
            of attribution, for any task.
        both_ways: Whether modalities that are behind are sped up, too, and each has a loss (MLB).
        beta: Largest factor, with both_ways.
        opm: Whether the leading modality is also dropped from clips (BML), by the settings of `opm` that follow.
    """

    alpha: float = 0.8
    start_epoch: int = 1
    end_epoch: int = 51
    dominance: str = "logits"
    both_ways: bool = False
    beta: float = 2.0
    opm: bool = False


@dataclass(frozen=True)
class OGMOptions(OPMOptions, GradientOptions):
    """Settings of `ogm` and `ogm-ge`: those of the factors of gradients, then those of the dropping."""

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        check_finite(self, "alpha")
        if self.start_epoch < 1:
            raise ValueError(
                f"--method-option start_epoch must be 1 or more, got {self.start_epoch}. Pass start_epoch=1."
            )
        if self.end_epoch < self.start_epoch:
            raise ValueError(
                f"--method-option end_epoch must be start_epoch or more, got {self.end_epoch} with "
                f"start_epoch={self.start_epoch}. Pass end_epoch={self.start_epoch + 50}, or a smaller start_epoch."
            )
        if self.dominance not in DOMINANCE:
            raise unknown("--method-option dominance", self.dominance, DOMINANCE)
        check_finite(self, "beta", least=1)
        check_used(self, ["beta"], "both_ways=true", on=self.both_ways)
        check_used(self, [each.name for each in fields(OPMOptions)], "opm=true", on=self.opm)
