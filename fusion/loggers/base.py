"""Registry and interface of loggers."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from amr.common.registry import Registry


@dataclass(frozen=True)
class TrackedRun:
    """A run as a tracker shows it.

    Args:
        name: Name of the run, unique in its sweep.
        settings: Full config of the run, its hyper-parameters.
    """

    name: str
    settings: Mapping[str, Any]

    @property
    def flat_settings(self) -> dict[str, bool | int | float | str | None]:
        """Settings as single values: lists become texts with commas."""
        return {
            name: value if isinstance(value, bool | int | float | str | None) else ",".join(map(str, value))
            for name, value in self.settings.items()
        }


@dataclass(frozen=True)
class Point:
    """Values of a run after one epoch, or after its end.

    Args:
        epoch: Number of epochs so far.
        values: Name, as in history.csv, to value.
        fold: Fold that is trained; None without folds.
        seconds: Time, in seconds since 1970.
    """

    epoch: int
    values: Mapping[str, float]
    fold: int | None = None
    seconds: float = field(default_factory=time.time)

    @property
    def tagged(self) -> dict[str, float]:
        """Values by names that differ between folds: `val_loss`, or `fold-0/val_loss`."""
        return {name if self.fold is None else f"fold-{self.fold}/{name}": v for name, v in self.values.items()}


class Sink(Protocol):
    """Receiver of the values of runs: the loggers of a command, or the connection to the process that has them."""

    def begin(self, run: TrackedRun, points: Sequence[Point] = ()) -> None:
        """Begin a run, or begin it again: what an earlier, killed command logged of it is replaced by `points`.

        Args:
            run: The run.
            points: Points of epochs that are trained already, if the training is resumed.
        """

    def log(self, name: str, point: Point) -> None:
        """Log an epoch of a run that has begun.

        Args:
            name: Name of the run.
            point: Values of the epoch.
        """

    def end(self, name: str, measures: Point | None) -> None:
        """End a run.

        Args:
            name: Name of the run.
            measures: Test measures; None if the run has none, since it diverged or was stopped.
        """


class Logger(ABC):
    """A `Sink` that writes for one tracker.

    Args:
        folder: Folder for the logger's files; made when it is needed.
        group: Name of the sweep that the runs belong to; None for a single run.
    """

    summary: ClassVar[str]

    def __init__(self, folder: Path, group: str | None = None) -> None:
        self.folder, self.group = folder, group

    @classmethod
    @abstractmethod
    def check(cls) -> None:
        """Check, before anything is trained, that the tracker can be used.

        Raises:
            ValueError: It cannot.
        """

    @abstractmethod
    def begin(self, run: TrackedRun, points: Sequence[Point] = ()) -> None:
        """Begin a run, as `Sink.begin`."""

    @abstractmethod
    def log(self, name: str, point: Point) -> None:
        """Log an epoch, as `Sink.log`."""

    @abstractmethod
    def end(self, name: str, measures: Point | None) -> None:
        """End a run, as `Sink.end`."""


loggers: Registry[type[Logger]] = Registry("logger")
