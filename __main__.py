"""The entry of `amr` and of `python -m amr`. It imports nothing before it can answer Ctrl-C."""

import atexit
import os
import signal
import sys
from contextlib import suppress

BY_SIGNAL = 128  # exit status of a command that a signal ends, less the signal's number, as of shells
MESSAGE = b"amr: stopped. Run the same command to start over.\n"


def main() -> None:
    """Run `amr` and exit with its status."""
    signals = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    ours = [each for each in signals if signal.getsignal(each) in (signal.SIG_DFL, signal.default_int_handler)]
    for each in ours:
        signal.signal(each, _leave)
    from amr.cli import run

    status = run(at_start=_leave)
    for each in ours:  # the work is done, and what it left in memory needs no more care
        signal.signal(each, lambda *_: os._exit(status))
    if status != 0:
        _exit(status)
    sys.exit(status)


def _exit(status: int) -> None:
    """Exit with this status, whatever is left: files that cannot be closed, Ctrl-C marked as unhandled by Python."""
    with suppress(Exception):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _leave(signum: int, frame: object) -> None:
    """Exit at once: nothing is begun, and an exception amid an import may end in C++ code that cannot pass it on."""
    os.write(2, MESSAGE)
    os._exit(BY_SIGNAL + signum)


if __name__ == "__main__":
    main()
