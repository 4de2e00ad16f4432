"""A checkpoint from which a training continues, also to more epochs after its end, and what is logged of each epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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
from amr.fusion.loggers.base import Point, Sink, TrackedRun
from amr.fusion.loggers.group import logged, measured_point, values_of
from amr.fusion.loggers.tensorboard import TensorBoardLogger
from amr.fusion.runs.measure import Measures
from amr.fusion.tasks.metrics import mean_average_precisions
from amr.fusion.train.reporter import Reporter

CHECKPOINT = "checkpoint.pt"
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
        run: The training in loggers; None for one named after the folder, without settings.
        sink: Loggers besides TensorBoard, which always gets the curves; None for no others.
        val_target: Classes of the val clips, `(clips,)`, for the mAP that loggers get; None for none.
    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        modalities: Sequence[str],
        augment: Augment,
        reporter: Reporter,
        seconds_between: float = SECONDS_BETWEEN,
        run: TrackedRun | None = None,
        sink: Sink | None = None,
        val_target: Tensor | None = None,
    ) -> None:
        self.file = folder / CHECKPOINT
        self._run = run or TrackedRun(folder.name, {})
        curves = TensorBoardLogger(folder)
        self._sinks: tuple[Sink, ...] = (curves,) if sink is None else (curves, sink)
        self._val_target = val_target
        self._points: list[Point] = []
        self._has_begun = False
        self._seed, self._modalities = seed, tuple(modalities)
        self.augment = augment
        self._reporter = reporter
        self._seconds_between = seconds_between
        self._saved_at = 0.0

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
        of_history = [self._values(epoch_values) for epoch_values in history]
        self._begin_logs(_points(saved or {}, of_history))
        self._reporter.begin(of_history)
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
            self.augment.set_state(saved["augment"])
            torch.set_rng_state(saved["rng"])
            if torch.cuda.is_available() and saved["cuda"] is not None:
                torch.cuda.set_rng_state(saved["cuda"])
        if not has_checksum(self.file):  # a kill came between, or an earlier version wrote it
            add_checksums(self.file.parent, [CHECKPOINT])
        return saved

    def epoch(
        self,
        epoch_values: Mapping[str, Tensor],
        state: Callable[[], dict[str, Any]],
        *,
        last: bool,
        val_logits: Tensor | None = None,
    ) -> None:
        """Log the epoch, save the state, report."""
        values = self._values(epoch_values)
        further = {}
        if val_logits is not None and self._val_target is not None:
            further["val_map"] = float(mean_average_precisions(val_logits, self._val_target)[0])
        self._points.append(Point(len(self._points) + 1, logged(values) | further))
        for sink in self._sinks:
            sink.log(self._run.name, self._points[-1])
        if last or time.monotonic() - self._saved_at >= self._seconds_between:
            self._save(state())
        self._reporter.epoch(values)

    def _begin_logs(self, points: list[Point]) -> None:
        """Begin the logs with these points: what a killed training logged after its checkpoint is logged again."""
        self._points, self._has_begun = points, True
        for sink in self._sinks:
            sink.begin(self._run, points)

    def end(self, test: Measures | None, history: Mapping[str, Tensor]) -> None:
        """Log the measures of the test split, if it has clips.

        Args:
            test: Measures.
            history: History of the training, name to `(epoch, 1, ...)`: of a model that was assembled, not trained, it
                is logged here.
        """
        if not self._has_begun:
            epochs = range(len(history["train_loss"]))
            values = [self._values({name: each[i] for name, each in history.items()}) for i in epochs]
            self._begin_logs(_points({}, values))
        for sink in self._sinks:
            sink.end(self._run.name, measured_point(test, len(self._points)))

    def _values(self, epoch_values: Mapping[str, Tensor]) -> dict[str, float]:
        """Values of one epoch, named as in history.csv."""
        return values_of(epoch_values, self._modalities)

    def _save(self, training: dict[str, Any]) -> None:
        """Write the checkpoint."""
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
        state = {"training": training, "augment": self.augment.state(), "rng": torch.get_rng_state(), "cuda": cuda}
        state["points"] = [dict(point.values) for point in self._points]  # not their times: two trainings are alike
        # to a file of Python's: writing by its own, torch does not say that the disk is full
        with (
            checksummed(self.file.parent, CHECKPOINT),
            replacing(self.file, durable=True) as partial,
            partial.open("wb") as file,
        ):
            torch.save(state, file)
        self._saved_at = time.monotonic()


def _points(saved: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> list[Point]:
    """Points of a saved training. Checkpoints of version 0.1 have none, but its history."""
    points = saved.get("points", [logged(values) for values in history])
    return [Point(epoch, values) for epoch, values in enumerate(points, start=1)]


def remove_checkpoint(file: Path) -> None:
    """Remove a checkpoint and its checksum."""
    remove_checksums(file.parent, [CHECKPOINT])
    file.unlink(missing_ok=True)


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of all models of a training."""
    for file in folder.rglob(CHECKPOINT):
        remove_checkpoint(file)
