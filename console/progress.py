"""Progress on stderr: a bar on a terminal, else a line every few seconds."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from amr.common.options import printable
from amr.common.progress import Progress

SECONDS_BETWEEN_LINES = 10.0
SLOW = 0.5  # units per second below which the seconds of one are shown
begun = threading.Event()  # set when a job begins to count, after it has made its files


class _Counting(Progress):
    """A counter of finished work and its rate; subclasses show it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._total = self._before = self._done = 0.0
        self._failures = 0
        self._unit = ""
        self._began = 0.0

    def start(self, total: float, done: float = 0, unit: str = "clips") -> None:
        """Start counting from `done`."""
        self._total, self._before, self._done = total, done, done
        self._failures, self._unit, self._began = 0, unit, time.monotonic()
        begun.set()

    def advance(self, amount: float, failures: int = 0) -> None:
        """Count finished work and failures."""
        with self._lock:
            self._done += amount
            self._failures += failures

    def _rate(self) -> float:
        """Units per second since the start."""
        return (self._done - self._before) / max(time.monotonic() - self._began, 1e-9)

    def _counted(self) -> str:
        """Text such as `12/240 clips, 30.1 clips/s`."""
        failures = f", {self._failures} failures" if self._failures else ""
        rate = self._rate()
        speed = f"{rate:.1f} {self._unit}/s" if rate >= SLOW or rate == 0 else f"{1 / rate:.0f} s per {self._unit[:-1]}"
        return f"{self._done:.0f}/{self._total:.0f} {self._unit}, {speed}{failures}"


class LineProgress(_Counting):
    """Progress as a plain line every few seconds; short jobs print none.

    Args:
        stream: Stream to print to.
        seconds_between: Seconds between two lines.
    """

    def __init__(self, stream: TextIO, seconds_between: float = SECONDS_BETWEEN_LINES) -> None:
        super().__init__()
        self._stream = stream
        self._seconds_between = seconds_between
        self._said = 0.0
        self._lines = 0

    def start(self, total: float, done: float = 0, unit: str = "clips") -> None:
        """Start counting, and say how much an earlier call finished."""
        super().start(total, done, unit)
        self._said, self._lines = self._began, 0
        if done:
            self.note(f"{total:.0f} {unit}, {done:.0f} already done")

    def advance(self, amount: float, failures: int = 0) -> None:
        """Print a line if the last one is more than `seconds_between` seconds old."""
        super().advance(amount, failures)
        with self._lock:
            now = time.monotonic()
            finished = self._lines > 0 and self._done >= self._total - 1e-6
            if now - self._said >= self._seconds_between or finished:
                self._said = now
                self._lines += 1
                rate = self._rate()
                left = duration((self._total - self._done) / rate) if rate else "?"
                self.note(f"{self._counted()}, {left} left")

    def note(self, text: str) -> None:
        """Print a line."""
        self._stream.write(f"{printable(text)}\n")
        self._stream.flush()


class BarProgress(_Counting):
    """Progress as a bar with rate, time left and failures; it disappears at the end of the job.

    Args:
        console: Console of a terminal.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._bar: RichProgress | None = None

    def start(self, total: float, done: float = 0, unit: str = "clips") -> None:
        """Show the bar."""
        super().start(total, done, unit)
        self.stop()
        columns = (
            BarColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._bar = RichProgress(*columns, console=self._console, transient=True)
        self._task = self._bar.add_task(self._counted(), total=total, completed=int(done))
        self._bar.start()

    def advance(self, amount: float, failures: int = 0) -> None:
        """Move the bar."""
        super().advance(amount, failures)
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, description=self._counted())

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        console = self._console if self._bar is None else self._bar.console
        console.print(printable(text), markup=False, emoji=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


@contextmanager
def stderr_progress() -> Iterator[Progress]:
    """Yield a bar if stderr is a terminal, else lines."""
    console = Console(stderr=True)
    progress = BarProgress(console) if console.is_terminal else LineProgress(sys.stderr)
    try:
        yield progress
    finally:
        progress.stop()


def duration(seconds: float) -> str:
    """Format a duration as hours, minutes and seconds.

    >>> duration(3723), duration(65)
    ('1:02:03', '1:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
