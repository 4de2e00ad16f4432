"""Ctrl-C, SIGTERM and SIGHUP: a command that is told to end says what is kept."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from amr.console.progress import begun

# SIGHUP is sent when a terminal is closed; Windows has none
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
BY_SIGNAL = 128  # exit status of a command that a signal ends, less the signal's number, as of shells
SECONDS_TO_AGAIN = 0.05

Handler = Callable[[int, FrameType | None], Any]


class Stop:
    """Whether a signal has told the command to end.

    Args:
        message: Function that returns what to say then.
    """

    def __init__(self, message: Callable[[], str]) -> None:
        self.status: int | None = None  # exit status, once a signal has come
        self.message = message
        self._process = os.getpid()

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt; amid the imports of a command that has not begun its work, end the program.

        torch's C++ code aborts where an import that it makes raises.
        """
        if os.getpid() != self._process:  # a forked worker: its parent, which has got the signal too, ends it
            if signum == signal.SIGTERM:
                signal.signal(signum, signal.SIG_DFL)
                signal.raise_signal(signum)
            return
        self.status = self.status or BY_SIGNAL + signum
        if not begun.is_set() and _importing(frame):
            os.write(2, f"amr: {self.message()}\n".encode())
            os._exit(self.status)
        raise KeyboardInterrupt


@contextmanager
def noting_signals(stop: Stop, at_start: Handler | None = None) -> Iterator[None]:
    """Let a command's `stop` handle signals that have no handler yet, or the program's own of its start.

    A KeyboardInterrupt that no caller can catch, because it came in a destructor, is raised again a little later.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    free = (signal.SIG_DFL, signal.default_int_handler, *([] if at_start is None else [at_start]))
    before = {each: signal.getsignal(each) for each in SIGNALS if signal.getsignal(each) in free}
    unraisable = sys.unraisablehook

    def again(lost: sys.UnraisableHookArgs) -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt) and stop.status is not None:
            signum = stop.status - BY_SIGNAL
            timer = threading.Timer(SECONDS_TO_AGAIN, os.kill, (os.getpid(), signum))
            timer.daemon = True
            timer.start()
        else:
            unraisable(lost)

    for each in before:
        signal.signal(each, stop.handle)
    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = unraisable
        for each, handler in before.items():
            signal.signal(each, handler)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
