"""How a sweep tells how far it is: a bar on a terminal, a line a group elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from amr.fusion.sweep import Progress


class LineProgress(Progress):
    """A line at the start and behind each group."""

    def start(self, num_runs: int, num_done: int) -> None:
        """How many runs there are."""
        self._total, self._done, self._new = num_runs, num_done, 0
        self._began = time.monotonic()
        self.note(f"{num_runs} runs" + (f", {num_done} are done already" if num_done else ""))

    def finished(self, num_runs: int, what: str) -> None:
        """How many are done, and how long the rest will take at this rate."""
        self._done += num_runs
        self._new += num_runs
        left = (time.monotonic() - self._began) / self._new * (self._total - self._done)
        self.note(f"{self._done}/{self._total} runs ({what}), {left:.0f} s left")

    def note(self, text: str) -> None:
        """A line on stderr."""
        print(text, file=sys.stderr, flush=True)  # noqa: T201


class BarProgress(Progress):
    """A bar of runs, which advances with their epochs, and the time left."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar

    def start(self, num_runs: int, num_done: int) -> None:
        """Show the bar."""
        self._total, self._done = num_runs, num_done
        self._task = self._bar.add_task(f"{num_done} runs written", total=num_runs, completed=num_done)

    def advance(self, num_runs: float) -> None:
        """Move it."""
        self._bar.advance(self._task, num_runs)

    def finished(self, num_runs: int, what: str) -> None:
        """A group is written."""
        self._done += num_runs
        self._bar.update(self._task, description=f"{self._done} runs written")

    def note(self, text: str) -> None:
        """A line above the bars."""
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def stderr_progress() -> Iterator[Progress]:
    """Bars where stderr is a terminal, lines elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield LineProgress()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Bar(*columns, TimeRemainingColumn(), console=console) as bar:
        yield BarProgress(bar)
