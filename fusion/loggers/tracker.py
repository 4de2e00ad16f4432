"""The loggers of one command as one."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from amr.fusion.loggers.base import Logger, Point, Sink, TrackedRun, loggers


def parse_loggers(text: str | None) -> tuple[str, ...]:
    """Names in the comma list of --logger, each once.

    >>> parse_loggers("csv, wandb"), parse_loggers(None)
    (('csv', 'wandb'), ())
    """
    return () if text is None else tuple(dict.fromkeys(name.strip() for name in text.split(",")))


def check_loggers(text: str | None) -> None:
    """Check, before anything is read or trained, that every tracker of --logger can be used.

    Raises:
        ValueError: A package or an account is missing.
    """
    for name in parse_loggers(text):
        loggers[name].check()


@contextmanager
def tracking(text: str | None, folder: Path, group: str | None = None, *, but: str = "") -> Iterator[Sink | None]:
    """Yield the loggers of a command as one; None if there are none. Runs that have not ended then are stopped ones.

    Args:
        text: Comma list of --logger.
        folder: Folder for the files of the loggers.
        group: Name of the sweep; None for a single run.
        but: Name of a logger that is left out, as the command has it anyway.
    """
    names = [name for name in parse_loggers(text) if name != but]
    tracker = Tracker([loggers[name](folder, group) for name in names])
    try:
        yield tracker if names else None
    finally:
        tracker.close()


class Tracker:
    """Several loggers as one. Groups of runs may log from several threads."""

    def __init__(self, of: Sequence[Logger]) -> None:
        self._loggers = of
        self._running: dict[str, None] = {}
        self._lock = threading.Lock()

    def begin(self, run: TrackedRun, points: Sequence[Point] = ()) -> None:
        """Begin a run, or begin it again."""
        with self._lock:
            if run.name in self._running:  # on a cluster, after its worker was lost
                self._end(run.name, None)
            self._running[run.name] = None
            for logger in self._loggers:
                logger.begin(run, points)

    def log(self, name: str, point: Point) -> None:
        """Log an epoch."""
        with self._lock:
            for logger in self._loggers:
                logger.log(name, point)

    def end(self, name: str, measures: Point | None) -> None:
        """End a run."""
        with self._lock:
            self._end(name, measures)

    def _end(self, name: str, measures: Point | None) -> None:
        del self._running[name]
        for logger in self._loggers:
            logger.end(name, measures)

    def close(self) -> None:
        """End the runs that are left, as stopped ones."""
        for name in [*self._running]:
            self.end(name, None)
