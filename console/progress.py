"""How an extraction tells how far it is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichBar

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Hears of an extraction and says nothing; the others say it."""

    def start(self, total: int, done: int) -> None:
        """An extraction of `total` clips begins, `done` of them were extracted before."""

    def advance(self, num_clips: int, num_failures: int) -> None:
        """So many more clips are extracted; so many (clip, modality) pairs of them failed."""

    def note(self, text: str) -> None:
        """Something that people should know."""

    def stop(self) -> None:
        """The extraction is over, or broke off."""


class LineProgress(Progress):
    """A plain line at the start, every few seconds, and at the end.

    Args:
        stream: where to.
        seconds_between: lines.
    """

    def __init__(self, stream: TextIO, seconds_between: float = SECONDS_BETWEEN_LINES) -> None:
        self._stream = stream
        self._seconds_between = seconds_between
        self._total = self._before = self._done = self._failures = 0
        self._began = self._said = 0.0

    def start(self, total: int, done: int) -> None:
        """Remember when."""
        self._total = total
        self._before = self._done = done
        self._began = self._said = time.monotonic()
        self.note(f"extracting {total - done} clips" + (f", {done} are done already" if done else ""))

    def advance(self, num_clips: int, num_failures: int) -> None:
        """Say how far it is, if the last line is some seconds old."""
        self._done += num_clips
        self._failures += num_failures
        now = time.monotonic()
        if now - self._said >= self._seconds_between or self._done == self._total:
            self._said = now
            rate = (self._done - self._before) / max(now - self._began, 1e-9)
            left = _duration((self._total - self._done) / rate) if rate else "?"
            self.note(f"{self._done}/{self._total} clips, {rate:.1f} clips/s, {left} left, {self._failures} failures")

    def note(self, text: str) -> None:
        """A line."""
        self._stream.write(f"{text}\n")
        self._stream.flush()


class BarProgress(Progress):
    """A rich progress bar with clips a second, time left and failures.

    Args:
        stream: a terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._bar = RichBar(
            TextColumn("extracting"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.1f} clips/s"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[failures]} failures"),
            console=Console(file=stream),
        )
        self._failures = self._extracted = 0
        self._began = 0.0

    def start(self, total: int, done: int) -> None:
        """Show the bar."""
        self._began = time.monotonic()
        self._task = self._bar.add_task("extracting", total=total, completed=done, rate=0.0, failures=0)
        self._bar.start()

    def advance(self, num_clips: int, num_failures: int) -> None:
        """Move the bar."""
        self._failures += num_failures
        self._extracted += num_clips
        rate = self._extracted / max(time.monotonic() - self._began, 1e-9)
        self._bar.update(self._task, advance=num_clips, rate=rate, failures=self._failures)

    def note(self, text: str) -> None:
        """A line above the bar."""
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Leave the bar as it is."""
        self._bar.stop()


def stderr_progress() -> Progress:
    """A bar where stderr is a terminal, lines elsewhere."""
    return BarProgress(sys.stderr) if sys.stderr.isatty() else LineProgress(sys.stderr)


def _duration(seconds: float) -> str:
    """Hours, minutes and seconds, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
