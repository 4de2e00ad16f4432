"""Hooks of the trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from amr.fusion.model import Fitted, FusionModel, ModelShape


class EpochCallback(Protocol):
    """Sees a training at the end of each epoch, and may make it go on from an earlier one."""

    def resume(self) -> dict[str, Any] | None:
        """The state of the last epoch that was kept; None: start anew."""

    def epoch(self, epoch_values: Mapping[str, Tensor], state: Callable[[], dict[str, Any]], *, last: bool) -> None:
        """An epoch is over: what the history says of it, and what a training that goes on from here must know."""


class NoCallback:
    """Nobody looks."""

    def resume(self) -> dict[str, Any] | None:
        """Always anew."""
        return None

    def epoch(self, epoch_values: Mapping[str, Tensor], state: Callable[[], dict[str, Any]], *, last: bool) -> None:
        """Nothing."""


@dataclass(frozen=True)
class EndToEndHooks:
    """What training encoders end to end has of its own; by default, heads are trained on embeddings.

    Args:
        build: the group's model, from its shape and seeds.
        fit_alone: modality to its uni-modal runs, one a member; None: trained here, on embeddings.
        watcher: sees each epoch.
        reuse: at how many places of a clip a weight acts, roughly; a step's work grows with it.
    """

    build: Callable[[ModelShape, Sequence[int]], FusionModel] = FusionModel
    fit_unimodal: Callable[[str], Fitted] | None = None
    callback: EpochCallback = field(default_factory=NoCallback)
    reuse: int = 1
