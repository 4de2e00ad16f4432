"""The entry of `amr` and of `python -m amr`. It imports nothing before it can answer Ctrl-C."""

import atexit
import os
import signal
import sys
from contextlib import suppress

STOPPED = 130  # exit status after Ctrl-C, as of shells
MESSAGE = "amr: stopped. Run the same command to start over.\n"


def main() -> None:
    """Run `amr` and exit with its status."""
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, _leave)
    try:
        from amr.cli import run

        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        status = run()
    except KeyboardInterrupt:
        sys.stderr.write(MESSAGE)
        status = STOPPED
    if status == STOPPED:
        _exit(status)
    sys.exit(status)


def _exit(status: int) -> None:
    """Exit with this status even where Python has marked Ctrl-C as unhandled, as it does inside exec of a string."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(status)


def _leave(signum: int, frame: object) -> None:
    """Exit at once: nothing is begun, and an exception amid an import may end in C++ code that cannot pass it on."""
    os.write(2, MESSAGE.encode())
    os._exit(STOPPED)


if __name__ == "__main__":
    main()
