"""Progress of work in several processes, such as shards, as one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from amr.common.progress import Progress

Event = tuple[str, tuple[Any, ...]]  # its kind, and values


class SentProgress(Progress):
    """Progress of a part of the work, sent to the process that shows it.

    Args:
        send: Function that sends an event, for `JoinedProgress.take`.
    """

    def __init__(self, send: Callable[[Event], object]) -> None:
        self._send = send
        self._lock = threading.Lock()

    def _sent(self, name: str, *values: Any) -> None:
        with self._lock:
            self._send((name, values))

    def start(self, total: float, done: float = 0, unit: str = "clips") -> None:
        """Send it."""
        self._sent("start", total, done, unit)

    def advance(self, amount: float, failures: int = 0) -> None:
        """Send it."""
        self._sent("advance", amount, failures)

    def note(self, text: str) -> None:
        """Send it."""
        self._sent("note", text)


class JoinedProgress:
    """Progress of several parts as one, which starts once they have started. A note is shown once.

    Args:
        progress: Listener of the whole.
        num_at_once: Number of parts that run side by side.
    """

    def __init__(self, progress: Progress, num_at_once: int) -> None:
        self.progress = progress
        self.has_started = False
        self._num_at_once = num_at_once
        self._totals: dict[int, float] = {}
        self._done: dict[int, float] = {}
        self._notes: set[str] = set()

    def take(self, part: int, event: Event) -> None:
        """Take an event of `SentProgress`.

        Args:
            part: Index of the part. One that starts again, after its process was lost, counts anew.
            event: Event that it sent.
        """
        kind, values = event
        if kind == "start":
            self._totals[part], self._done[part], unit = values
            if self.has_started or len(self._totals) >= self._num_at_once:
                self.has_started = True
                self.progress.start(sum(self._totals.values()), sum(self._done.values()), unit)
        elif kind == "advance":
            self._done[part] += values[0]
            if self.has_started:
                self.progress.advance(*values)
        elif kind == "note" and values[0] not in self._notes:
            self._notes.add(values[0])
            self.progress.note(values[0])
