"""What a training leaves on the disk while it runs: a checkpoint to go on from, and its curves."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from amr.extract.training.augment import Augment

SECONDS_BETWEEN = 20.0  # checkpoints hold several copies of the weights
Report = Callable[[int, dict[str, float]], None]


class Checkpoint:
    """Watches a training of one run: keeps its state and hands it back to one that goes on.

    Args:
        folder: of the training; `checkpoint.pt` and `tensorboard/` go there.
        augment: whose random numbers belong to the state.
        report: called after each epoch with its number and what the history says of it, name to value.
        seconds_between: the state is kept at the end of an epoch once so much time has gone by.
    """

    def __init__(
        self, folder: Path, augment: Augment, report: Report, seconds_between: float = SECONDS_BETWEEN
    ) -> None:
        self.file = folder / "checkpoint.pt"
        self._curves = folder / "tensorboard"
        self._augment = augment
        self._report = report
        self._seconds_between = seconds_between
        self._kept = time.monotonic()
        self._epoch = 0

    def resume(self) -> dict[str, Any] | None:
        """The state that was last kept; None where there is none. Chance goes on from there, too."""
        kept = torch.load(self.file, map_location="cpu", weights_only=True) if self.file.is_file() else None
        if kept is not None:
            self._epoch = len(kept["training"]["history"])
            self._augment.set_state(kept["augment"])
            torch.set_rng_state(kept["rng"])
            if torch.cuda.is_available() and kept["cuda"]:
                torch.cuda.set_rng_state_all(kept["cuda"])
        self._writer = SummaryWriter(str(self._curves), purge_step=self._epoch + 1)
        return None if kept is None else kept["training"]

    def epoch(self, record: Mapping[str, Tensor], state: Callable[[], dict[str, Any]]) -> None:
        """Draw the curves, keep the state, report."""
        self._epoch += 1
        values = {name: value[0].item() for name, value in record.items() if value.ndim == 1}
        shares = {name: value[0].tolist() for name, value in record.items() if value.ndim > 1}
        values |= {f"{name}_{i}": each for name, parts in shares.items() for i, each in enumerate(parts)}
        for name, value in values.items():
            self._writer.add_scalar(name, value, self._epoch)
        if time.monotonic() - self._kept >= self._seconds_between:
            self._keep(state())
        self._report(self._epoch, values)

    def close(self) -> None:
        """What was trained is written elsewhere."""
        self._writer.close()
        self.file.unlink(missing_ok=True)

    def _keep(self, training: dict[str, Any]) -> None:
        """A kill leaves the old checkpoint or the new one."""
        beside = self.file.with_name(f".{self.file.name}.partial")
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        state = {"training": training, "augment": self._augment.state(), "rng": torch.get_rng_state(), "cuda": cuda}
        torch.save(state, beside)
        os.replace(beside, self.file)
        self._kept = time.monotonic()
