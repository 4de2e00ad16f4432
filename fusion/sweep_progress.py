"""How a sweep tells how far it is: a bar on a terminal, a line a group elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from amr.fusion.sweep import Progress


class LineProgress(Progress):
    """A line at the start and behind each group."""

    def start(self, num_runs: int, num_done: int) -> None:
        """How many runs there are."""
        self._total, self._done, self._new = num_runs, num_done, 0
        self._began = time.monotonic()
        self.note(f"{num_runs} runs" + (f", {num_done} are done already" if num_done else ""))

    def group(self, num_runs: int, what: str) -> None:
        """Remember what is trained."""
        self._what = what

    def finished(self, num_runs: int) -> None:
        """How many are done, and how long the rest will take at this rate."""
        self._done += num_runs
        self._new += num_runs
        left = (time.monotonic() - self._began) / self._new * (self._total - self._done)
        self.note(f"{self._done}/{self._total} runs ({self._what}), {left:.0f} s left")

    def note(self, text: str) -> None:
        """A line on stderr."""
        print(text, file=sys.stderr, flush=True)  # noqa: T201


class BarProgress(Progress):
    """Two bars: runs, with the time left, and epochs of the group."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar

    def start(self, num_runs: int, num_done: int) -> None:
        """Show the bars."""
        self._runs = self._bar.add_task("runs", total=num_runs, completed=num_done)
        self._epochs = self._bar.add_task("epochs", total=None)

    def group(self, num_runs: int, what: str) -> None:
        """Begin the group's bar anew."""
        self._size, self._before = num_runs, self._bar.tasks[self._runs].completed
        self._bar.reset(self._epochs, description=f"{num_runs} x {what}, epochs")

    def epoch(self, done: int, total: int) -> None:
        """Move both: runs in a group advance together."""
        self._bar.update(self._epochs, completed=done, total=total)
        self._bar.update(self._runs, completed=self._before + self._size * done / total)

    def finished(self, num_runs: int) -> None:
        """The group is written."""
        self._bar.update(self._runs, completed=self._before + num_runs)

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
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, TimeRemainingColumn(), console=console) as bar:
        yield BarProgress(bar)
