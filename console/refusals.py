"""Errors shown as one or two lines, with an exit status."""

from __future__ import annotations

import itertools
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import typer

from amr.console.progress import begun

# errors of a wrong request: a refused value, or a path that the file system refuses
REQUEST_ERRORS = (ValueError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)
STOPPED = 130  # exit status after Ctrl-C, as of shells
# what a command that was stopped keeps; the others leave nothing half done
KEPT = {
    "demo": "Finished steps are",
    "extract": "Finished clips are",
    "frontier": "Finished runs are",
    "sweep": "Finished runs are",
    "table": "Finished runs are",
    "train-encoders": "Decoded clips and the last checkpoint are",
}
COUNTED = ("extract", "frontier", "sweep", "table")  # commands that keep nothing before they begin to count


def run_app(app: typer.Typer, arguments: Sequence[str] | None = None) -> int:
    """Run a command with these arguments and return its exit status.

    0 done, 1 the work failed, 2 a wrong request, 130 stopped by Ctrl-C. With AMR_TRACEBACK set, errors keep their
    traceback.
    """
    given = sys.argv[1:] if arguments is None else arguments
    begun.clear()
    with _noting_interrupts(given) as interrupted:
        try:
            status, message = _outcome(app, given)
        except BaseException as error:
            if not (interrupted.is_set() or isinstance(error, KeyboardInterrupt)):
                raise
            status, message = STOPPED, ""
        if status == STOPPED or (interrupted.is_set() and status != 0):  # libraries turn Ctrl-C into their own errors
            status, message = STOPPED, _stopped(given)
        if message:
            _print_error(message)
        return status


def _stopped(arguments: Sequence[str]) -> str:
    """Message after Ctrl-C: what is kept, and what the same command does."""
    command = next(iter(arguments), "")
    kept = KEPT.get(command)
    if kept is None or (command in COUNTED and not begun.is_set()):
        return "stopped. Run the same command to start over."
    return f"stopped. {kept} saved; run the same command to continue."


@contextmanager
def _noting_interrupts(arguments: Sequence[str]) -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C sets, besides the KeyboardInterrupt that it raises.

    Amid the imports of a command that has not begun its work, Ctrl-C ends the program at once: torch's C++ code
    aborts where an import that it makes raises.
    """
    interrupted = threading.Event()

    def note(signum: int, frame: FrameType | None) -> None:
        interrupted.set()
        if not begun.is_set() and _importing(frame):
            os.write(2, f"amr: {_stopped(arguments)}\n".encode())
            os._exit(STOPPED)
        raise KeyboardInterrupt

    own = threading.current_thread() is threading.main_thread()
    if not own or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield interrupted  # the program around it handles signals
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _outcome(app: typer.Typer, arguments: Sequence[str]) -> tuple[int, str]:
    """Run a command; its exit status and the message of its error."""
    keep_traceback = bool(os.environ.get("AMR_TRACEBACK"))
    try:
        status = app(list(arguments), prog_name="amr", standalone_mode=False)
        return (status if isinstance(status, int) else 0), ""
    except typer.TyperException as error:
        if not error.format_message():  # no command: the help was printed
            return 2, ""
        return 2, _usage_message(error, arguments)
    except REQUEST_ERRORS as error:
        if keep_traceback:
            raise
        return 2, _message(error)
    except (RuntimeError, OSError, MemoryError) as error:
        if keep_traceback:
            raise
        return 1, _message(error)


def _message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror is not None:
        return f"{error.strerror}: {error.filename}"
    return str(error) or type(error).__name__


def _usage_message(error: typer.TyperException, arguments: Sequence[str]) -> str:
    """Error of the parser in the form of all other errors."""
    text = error.format_message().rstrip(".")
    help_text = f"See {_help_command(error)}."
    if invalid := re.match(r"Invalid value for '([^']+)': .*?valid (integer|number|float|boolean)", text):
        name, kind = invalid[1], {"integer": "a whole number", "boolean": "true or false"}.get(invalid[2], "a number")
        given = [b for a, b in itertools.pairwise(arguments) if a == name]
        given += [a.partition("=")[2] for a in arguments if a.startswith(f"{name}=")]
        return f"{name} must be {kind}, got {given[-1] if given else '?'!r}. {help_text}"
    if (missing := re.match(r"No such option: (-[^-]\S*)", text)) and {"predict", "explain"} & {*arguments}:
        whole = next((a for a in arguments if a.startswith(missing[1])), missing[1])
        return f"{text}. Pass an id that begins with - as --clip={whole}."
    if guess := re.match(r"No such option: (\S+) \(Possible options: ([^,)]+)", text):
        return f"No such option: {guess[1]}. Did you mean {guess[2]}? {help_text}"
    return f"{text} {help_text}" if text.endswith("?") else f"{text}. {help_text}"


def _help_command(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path if context is not None else 'amr'} --help"


def _print_error(message: str) -> None:
    lines = " ".join(message.split("\n")[:2])
    print(f"amr: {lines}", file=sys.stderr)  # noqa: T201
