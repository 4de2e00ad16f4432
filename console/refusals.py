"""Errors shown as one or two lines, with an exit status."""

from __future__ import annotations

import errno
import itertools
import os
import re
import sys
from collections.abc import Iterator, Sequence

import typer

from amr.common.files.temporary import NoRoom
from amr.common.options import printable
from amr.common.registry import closest
from amr.console.progress import begun
from amr.console.signals import Handler, Stop, noting_signals

# errors of a wrong request: a refused value, or a path that the file system refuses
REQUEST_ERRORS = (ValueError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)
STOPPED = 130  # exit status after Ctrl-C, as of shells
FULL = tuple(getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name))
# what a command that was stopped keeps; the others leave nothing half done
KEPT = {
    "demo": "Finished steps are",
    "extract": "Finished clips are",
    "frontier": "Finished runs are",
    "sweep": "Finished runs are",
    "table": "Finished runs are",
    "train-encoders": "Decoded clips and the last checkpoint are",
}
# options of a command that decide how much memory it needs
LOWERED = {
    "fit": "--hidden, --adapter-dim or --batch-size",
    "sweep": "--group-size, --hidden, --adapter-dim or --batch-size",
    "table": "--group-size, --hidden, --adapter-dim or --batch-size",
    "frontier": "--hidden, --adapter-dim or --batch-size",
    "train-encoders": "--batch-size, --hidden or the size of the encoders",
    "extract": "--batch-size",
}
COUNTED = ("extract", "frontier", "sweep", "table")  # commands that keep nothing before they begin to count


def run_app(app: typer.Typer, arguments: Sequence[str] | None = None, at_start: Handler | None = None) -> int:
    """Run a command with these arguments and return its exit status.

    0 done, 1 the work failed, 2 a wrong request, 128 and the number of a signal that stopped it. With AMR_TRACEBACK
    set, errors keep their traceback.

    Args:
        app: App of the commands.
        arguments: Arguments; those of the program by default.
        at_start: Handler of signals that this program has set for its start.
    """
    given = sys.argv[1:] if arguments is None else arguments
    begun.clear()
    stop = Stop(lambda: _stopped(given))
    with noting_signals(stop, at_start):
        try:
            status, message = _outcome(app, given)
        except BaseException as error:
            if stop.status is None and not isinstance(error, KeyboardInterrupt):
                raise
            status, message = STOPPED, ""
        if status == STOPPED or (stop.status is not None and status != 0):  # libraries make it an error of their own
            status, message = stop.status or STOPPED, _stopped(given)
        if message:
            _print_error(message)
        return status


def _stopped(arguments: Sequence[str]) -> str:
    """Message after Ctrl-C: what is kept, and what the same command does."""
    kept = _kept(arguments)
    if kept is None:
        return "stopped. Run the same command to start over."
    return f"stopped. {kept} saved; run the same command to continue."


def _kept(arguments: Sequence[str]) -> str | None:
    """Parts of its work that a command has saved; None before there are any, and if it saves none."""
    command = next(iter(arguments), "")
    return None if command in COUNTED and not begun.is_set() else KEPT.get(command)


def _disk_full(error: BaseException, arguments: Sequence[str]) -> str | None:
    """Message for an error that a full disk caused, in whatever words a library put it; None for other errors."""
    for each in _causes(error):
        if isinstance(each, NoRoom):  # which says what to do for its folder
            return None
        number = each.errno if isinstance(each, OSError) else None
        found = next((code for code in FULL if code == number or os.strerror(code) in str(each)), None)
        if found is not None:
            file = each.filename if isinstance(each, OSError) else None
            place = "" if file is None else f" at {os.path.dirname(os.fsdecode(file)) or '.'!r}"
            kept = _kept(arguments)
            saved = "run the same command again" if kept is None else "run the same command to continue"
            return (
                f"the disk must have room for the results, got {os.strerror(found)!r}{place}. "
                f"{'' if kept is None else f'{kept} saved. '}Free some space, then {saved}."
            )
    return None


def _out_of_memory(error: BaseException, arguments: Sequence[str]) -> str | None:
    """Message for memory of the CPU or the GPU that did not suffice; None for other errors."""
    on_gpu = type(error).__name__ in ("OutOfMemoryError", "AcceleratorError") and "out of memory" in str(error)
    if not (on_gpu or isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)):
        return None
    if isinstance(error, MemoryError) and "Unable to allocate" not in str(error) and str(error):
        return None  # which says more, in its own words
    size = re.search(r"(?:tried to|Unable to) allocate ([\d.]+ ?\w+)", str(error), re.IGNORECASE)
    asked = "more" if size is None else _in_gib(size[1])
    lower = LOWERED.get(next(iter(arguments), ""), "the size of what is computed at once")
    return (
        f"memory of the {'GPU' if on_gpu else 'CPU'} must hold what is computed at once, got too little for {asked}. "
        f"Lower {lower}{', or pass --device cpu' if on_gpu else ''}."
    )


def _in_gib(size: str) -> str:
    """Size in words, from bytes or as it is.

    >>> _in_gib("43560000000 bytes"), _in_gib("2.00 GiB")
    ('40.6 GiB', '2.00 GiB')
    """
    number, _, unit = size.partition(" ")
    return f"{float(number) / 2**30:.3g} GiB" if unit == "bytes" else size


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _outcome(app: typer.Typer, arguments: Sequence[str]) -> tuple[int, str]:
    """Run a command; its exit status and the message of its error."""
    keep_traceback = bool(os.environ.get("AMR_TRACEBACK"))
    try:
        status = app(list(arguments), prog_name="amr", standalone_mode=False)
        sys.stdout.flush()
        return (status if isinstance(status, int) else 0), ""
    except typer.TyperException as error:
        if not error.format_message():  # no command: the help was printed
            return 2, ""
        return 2, _usage_message(error, arguments)
    except Exception as error:
        full = _disk_full(error, arguments) or _out_of_memory(error, arguments)
        if keep_traceback or not (full or isinstance(error, (*REQUEST_ERRORS, RuntimeError, OSError, MemoryError))):
            raise
        return (1, full) if full else (2 if isinstance(error, REQUEST_ERRORS) else 1, _message(error))


def _message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror is not None:
        if error.filename is not None:
            advice = "Check who may use it, or name another file" if isinstance(error, PermissionError) else "Check it"
            return f"{str(error.filename)!r} must be usable, got {error.strerror!r}. {advice}."
        if error.strerror.startswith("No usable temporary directory"):
            return f"the temporary folder must take a file, got {error.strerror!r}. Set TMPDIR to another folder."
        return error.strerror
    return str(error) or type(error).__name__


def _usage_message(error: typer.TyperException, arguments: Sequence[str]) -> str:
    """Error of the parser in the form of all other errors."""
    text = error.format_message().rstrip(".")
    command = _command(error, arguments)
    help_text = f"See {command} --help."
    if invalid := re.match(r"Invalid value for '([^']+)': .*?valid (integer|number|float|boolean)", text):
        kind = {"integer": "a whole number", "boolean": "true or false"}.get(invalid[2], "a number")
        return f"{invalid[1]} must be {kind}, got {_given(invalid[1], arguments)!r}. {help_text}"
    if (missing := re.match(r"No such option: (-[^-]\S*)", text)) and command in {"amr predict", "amr explain"}:
        whole = next((a for a in arguments if a.startswith(missing[1])), missing[1])
        return f"option must be an option of {command}, got {whole!r}. Pass an id that begins with - as --clip={whole}."
    if other := re.match(r"No such (command|option):? '?([^\s']+)'?", text):
        name, known = other[2], re.findall(r"--?\w[\w-]*|'[\w-]+'", text[other.end() :])
        close = closest(name, [each.strip("'") for each in known])
        hint = "" if close is None else f"Did you mean {close}? "
        kind = f"{'a' if other[1] == 'command' else 'an'} {other[1]}"
        return f"{other[1]} must be {kind} of {command}, got {name!r}. {hint}{help_text}"
    if missing := re.match(r"Missing (?:argument|option) '([^']+)'", text):
        return f"{missing[1]} must be given, got none. {help_text}"
    if missing := re.match(r"Option '([^']+)' requires", text):
        return f"{missing[1]} must have a value, got none. {help_text}"
    if flag := re.match(r"Option '([^']+)' does not take a value", text):
        return f"{flag[1]} must have no value, got {_given(flag[1], arguments)!r}. Pass {flag[1]} alone."
    if extra := re.match(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)$", text):
        return f"arguments must be those that {command} takes, got {extra[1]!r} too. {help_text}"
    return f"{text} {help_text}" if text.endswith("?") else f"{text}. {help_text}"


def _given(option: str, arguments: Sequence[str]) -> str:
    """Value that was given for an option, the last one."""
    given = [b for a, b in itertools.pairwise(arguments) if a == option]
    given += [a.partition("=")[2] for a in arguments if a.startswith(f"{option}=")]
    return given[-1] if given else "?"


def _command(error: Exception, arguments: Sequence[str]) -> str:
    context = getattr(error, "ctx", None)
    if context is not None:
        return str(context.command_path)
    return f"amr {arguments[0]}"  # an error of an option's value: the command is known by then


def _print_error(message: str) -> None:
    lines = " ".join(message.split("\n")[:2])
    print(f"amr: {printable(lines)}", file=sys.stderr)  # noqa: T201
