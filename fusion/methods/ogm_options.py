"""Settings of OGM-GE and of what is published as an extension of it: BML and MLB."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf

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
        if not 0 <= self.alpha < inf:
            raise ValueError(f"--method-option alpha must be 0 or more, got {self.alpha}. Pass alpha=0.8.")
        if not 1 <= self.start_epoch <= self.end_epoch:
            raise ValueError(
                f"--method-option end_epoch must be at least start_epoch, from 1, got {self.start_epoch} to "
                f"{self.end_epoch}. Pass start_epoch=1 and end_epoch=51."
            )
        if self.dominance not in DOMINANCE:
            raise unknown("--method-option dominance", self.dominance, DOMINANCE)
        if not 1 <= self.beta < inf:
            raise ValueError(f"--method-option beta must be 1 or more, got {self.beta}. Pass beta=2.")
        self._check_used("both_ways", ["beta"])
        self._check_used("opm", [each.name for each in fields(OPMOptions)])

    def _check_used(self, switch: str, names: list[str]) -> None:
        """Raise ValueError for settings of a part that is switched off."""
        changed = [name for name in names if getattr(self, name) != getattr(type(self), name)]
        if changed and not getattr(self, switch):
            raise ValueError(
                f"--method-option {changed[0]} must be used with {switch}=true, got {getattr(self, changed[0])} "
                f"without it. Pass --method-option {switch}=true, or leave {changed[0]} out."
            )
