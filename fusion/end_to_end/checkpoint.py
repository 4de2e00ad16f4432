"""What a training leaves on the disk while it runs: a checkpoint to go on from, and its curves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from amr.common.files import replacing
from amr.fusion.end_to_end.augment import Augment
from amr.fusion.end_to_end.reporter import Reporter

CHECKPOINT = "checkpoint.pt"
SECONDS_BETWEEN = 20.0  # checkpoints hold several copies of the weights


class Checkpoint:
    """Watches a training of one run: keeps its state and hands it back to one that goes on.

    Args:
        folder: of the training; `checkpoint.pt` and `tensorboard/` go there.
        seed: of chance that is the program's own, such as dropout in encoders.
        modalities: in the order of the history's shares.
        augment: whose random numbers belong to the state.
        reporter: hears of each epoch.
        seconds_between: the state is kept at the end of an epoch once so much time has gone by, and of the last.
    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        modalities: Sequence[str],
        augment: Augment,
        reporter: Reporter,
        seconds_between: float = SECONDS_BETWEEN,
    ) -> None:
        self.file = folder / CHECKPOINT
        self._curves = folder / "tensorboard"
        self._seed, self._modalities = seed, tuple(modalities)
        self._augment = augment
        self._reporter = reporter
        self._seconds_between = seconds_between
        self._kept = 0.0
        self._epoch = 0
        self._writer: SummaryWriter | None = None

    def resume(self) -> dict[str, Any] | None:
        """The state that was last kept; None where there is none. Chance starts from its seed, or goes on."""
        kept = torch.load(self.file, map_location="cpu", weights_only=True) if self.file.is_file() else None
        if kept is None:
            torch.manual_seed(self._seed)
        else:
            self._augment.set_state(kept["augment"])
            torch.set_rng_state(kept["rng"])
            if torch.cuda.is_available() and kept["cuda"] is not None:
                torch.cuda.set_rng_state(kept["cuda"])
        history = [] if kept is None else kept["training"]["history"]
        self._epoch = len(history)
        # what a killed training drew behind its checkpoint is drawn again
        self._writer = SummaryWriter(str(self._curves), purge_step=self._epoch + 1)
        self._reporter.begin([self._values(epoch_values) for epoch_values in history])
        self._kept = time.monotonic()
        return None if kept is None else kept["training"]

    def epoch(self, epoch_values: Mapping[str, Tensor], state: Callable[[], dict[str, Any]], *, last: bool) -> None:
        """Draw the curves, keep the state, report."""
        assert self._writer is not None
        self._epoch += 1
        values = self._values(epoch_values)
        for name, value in values.items():
            self._writer.add_scalar(name, value, self._epoch)
        if last or time.monotonic() - self._kept >= self._seconds_between:
            self._writer.flush()
            self._keep(state())
        self._reporter.epoch(values)

    def close(self) -> None:
        """Write the curves to their end."""
        if self._writer is not None:
            self._writer.close()

    def _values(self, epoch_values: Mapping[str, Tensor]) -> dict[str, float]:
        """An epoch's numbers of the one run, as in history.csv."""
        values = {name: float(value[0]) for name, value in epoch_values.items() if value.ndim == 1}
        for name, value in epoch_values.items():
            if value.ndim > 1:
                values |= {f"{name}_{m}": share for m, share in zip(self._modalities, value[0].tolist(), strict=True)}
        return values

    def _keep(self, training: dict[str, Any]) -> None:
        """Write the checkpoint."""
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
        state = {"training": training, "augment": self._augment.state(), "rng": torch.get_rng_state(), "cuda": cuda}
        with replacing(self.file) as partial:
            torch.save(state, partial)
        self._kept = time.monotonic()
