"""A checkpoint from which a training continues, also to more epochs after its end, and curves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from amr.common.files import (
    NotWhole,
    add_checksums,
    check_file,
    checksummed,
    has_checksum,
    remove_checksums,
    replacing,
    whole_file,
)
from amr.fusion.end_to_end.augment import Augment
from amr.fusion.train.reporter import Reporter

CHECKPOINT, TENSORBOARD = "checkpoint.pt", "tensorboard"
SECONDS_BETWEEN = 20.0  # checkpoints hold several copies of the weights


class Checkpoint:
    """Epoch callback for a training of one run: saves its state, and restores it on resume.

    Args:
        folder: Folder of the training, for `checkpoint.pt` and `tensorboard/`.
        seed: Seed of PyTorch's global generators, for example for dropout in encoders.
        modalities: Modalities in the order of the history's shares.
        augment: Augmentation, whose random stream belongs to the state.
        reporter: Reporter of each epoch.
        seconds_between: Least time between checkpoints. They are saved at the end of an epoch; the last always is.
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
        self._curves = folder / TENSORBOARD
        self._seed, self._modalities = seed, tuple(modalities)
        self._augment = augment
        self._reporter = reporter
        self._seconds_between = seconds_between
        self._saved_at = 0.0
        self._epoch = 0
        self._writer: SummaryWriter | None = None

    def resume(self) -> dict[str, Any] | None:
        """Return the last saved state, None if there is none; random streams start from the seed, or continue.

        From a damaged checkpoint nothing is taken: a note says so, and training starts from the beginning.
        """
        saved = None
        if self.file.is_file():
            try:
                saved = self._read()
            except NotWhole:
                remove_checkpoint(self.file)
                self._reporter.warn(f"{self.file} is damaged: training starts from the beginning")
        if saved is None:
            torch.manual_seed(self._seed)
        history = [] if saved is None else saved["training"]["history"]
        if len(history) > self._reporter.epochs:
            raise ValueError(
                f"--epochs must be {len(history)} or more to continue {str(self.file.parent)!r}, got "
                f"{self._reporter.epochs}. Choose another name, or --overwrite to train from the start."
            )
        self._epoch = len(history)
        # curves of a killed training after its checkpoint are written again
        self._writer = SummaryWriter(str(self._curves), purge_step=self._epoch + 1)
        self._reporter.begin([self._values(epoch_values) for epoch_values in history])
        self._saved_at = time.monotonic()
        return None if saved is None else saved["training"]

    def _read(self) -> dict[str, Any]:
        """Read the checkpoint, and set the random streams to its states.

        Raises:
            NotWhole: It is damaged.
        """
        with whole_file(self.file, "--out"):
            check_file(self.file)
            saved: dict[str, Any] = torch.load(self.file, map_location="cpu", weights_only=True)
            history = saved["training"]["history"]
            if not all(isinstance(value, Tensor) for values in history for value in values.values()):
                raise TypeError("its history is not of numbers")
            self._augment.set_state(saved["augment"])
            torch.set_rng_state(saved["rng"])
            if torch.cuda.is_available() and saved["cuda"] is not None:
                torch.cuda.set_rng_state(saved["cuda"])
        if not has_checksum(self.file):  # a kill came between, or an earlier version wrote it
            add_checksums(self.file.parent, [CHECKPOINT])
        return saved

    def epoch(self, epoch_values: Mapping[str, Tensor], state: Callable[[], dict[str, Any]], *, last: bool) -> None:
        """Write the curves, save the state, report."""
        assert self._writer is not None
        self._epoch += 1
        values = self._values(epoch_values)
        for name, value in values.items():
            self._writer.add_scalar(name, value, self._epoch)
        if last or time.monotonic() - self._saved_at >= self._seconds_between:
            self._writer.flush()
            self._save(state())
        self._reporter.epoch(values)

    def close(self) -> None:
        """Finish writing the curves."""
        if self._writer is not None:
            self._writer.close()

    def _values(self, epoch_values: Mapping[str, Tensor]) -> dict[str, float]:
        """Values of one epoch, named as in history.csv."""
        values = {name: float(value[0]) for name, value in epoch_values.items() if value.ndim == 1}
        for name, value in epoch_values.items():
            if value.ndim > 1:
                values |= {f"{name}_{m}": share for m, share in zip(self._modalities, value[0].tolist(), strict=True)}
        return values

    def _save(self, training: dict[str, Any]) -> None:
        """Write the checkpoint."""
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
        state = {"training": training, "augment": self._augment.state(), "rng": torch.get_rng_state(), "cuda": cuda}
        # to a file of Python's: writing by its own, torch does not say that the disk is full
        with (
            checksummed(self.file.parent, CHECKPOINT),
            replacing(self.file, durable=True) as partial,
            partial.open("wb") as file,
        ):
            torch.save(state, file)
        self._saved_at = time.monotonic()


def remove_checkpoint(file: Path) -> None:
    """Remove a checkpoint and its checksum."""
    remove_checksums(file.parent, [CHECKPOINT])
    file.unlink(missing_ok=True)


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of all models of a training."""
    for file in folder.rglob(CHECKPOINT):
        remove_checkpoint(file)
