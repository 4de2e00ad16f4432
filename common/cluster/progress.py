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
    """Progress of several parts as one. A note is shown once.

    It starts once the parts that run side by side have started, or one of them has advanced.

    Args:
        progress: Listener of the whole.
        total: Amount of work of all parts.
        num_at_once: Number of parts that run side by side.
    """

    def __init__(self, progress: Progress, total: float, num_at_once: int) -> None:
        self.progress = progress
        self.has_started = False
        self._total, self._num_at_once = total, num_at_once
        self._done: dict[int, float] = {}
        self._unit = "clips"
        self._notes: set[str] = set()

    def take(self, part: int, event: Event) -> None:
        """Take an event of `SentProgress`.

        Args:
            part: Index of the part. One that starts again, after its process was lost, counts anew.
            event: Event that it sent.
        """
        kind, values = event
        if kind == "start":
            _, done, self._unit = values
            before, self._done[part] = self._done.get(part), done
            if not self.has_started:
                if len(self._done) == self._num_at_once:
                    self._start()
            elif before is not None:  # its process was lost, and another goes on
                self.progress.advance(done - before)
            elif done:  # the rate is that of the work since this start
                self._start()
        elif kind == "advance" and part in self._done:  # else its start was lost
            if not self.has_started:
                self._start()
            self._done[part] += values[0]
            self.progress.advance(*values)
        elif kind == "note" and values[0] not in self._notes:
            self._notes.add(values[0])
            self.progress.note(values[0])

    def _start(self) -> None:
        self.has_started = True
        self.progress.start(self._total, sum(self._done.values()), self._unit)
