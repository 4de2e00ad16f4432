"""Hooks of the trainer: a callback per epoch, and what training encoders end to end replaces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from amr.fusion.model import Fitted, FusionModel, ModelShape


class EpochCallback(Protocol):
    """Called after each epoch; may also resume an earlier training."""

    def resume(self) -> dict[str, Any] | None:
        """State to resume from; None to start from the beginning."""

    def epoch(
        self,
        epoch_values: Mapping[str, Tensor],
        state: Callable[[], dict[str, Any]],
        *,
        last: bool,
        val_logits: Tensor | None = None,
    ) -> None:
        """Handle the end of an epoch.

        Args:
            epoch_values: The epoch's row of the history, name to `(run,)` or `(run, modalities)`.
            state: Function that returns the state to resume from.
            last: Whether training ends here.
            val_logits: Logits of the val clips, `(run, clips, classes)`; None without val clips.
        """


class NoCallback:
    """A callback that does nothing."""

    def resume(self) -> dict[str, Any] | None:
        """Start from the beginning."""
        return None

    def epoch(
        self,
        epoch_values: Mapping[str, Tensor],
        state: Callable[[], dict[str, Any]],
        *,
        last: bool,
        val_logits: Tensor | None = None,
    ) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class EndToEndHooks:
    """Replacements for training encoders end to end. The defaults train heads on embeddings.

    Args:
        build: Function from the shape and the seeds to the model.
        fit_unimodal: Function from a modality to its uni-modal runs, one per member; None to train them on embeddings.
        callback: Callback of each epoch.
        reuse: Approximate number of places in a clip at which each weight acts; the work of a step grows with it.
    """

    build: Callable[[ModelShape, Sequence[int]], FusionModel] = FusionModel
    fit_unimodal: Callable[[str], Fitted] | None = None
    callback: EpochCallback = field(default_factory=NoCallback)
    reuse: int = 1
