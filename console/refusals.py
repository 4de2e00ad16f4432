"""Errors shown as one or two lines, with an exit status."""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Sequence

import typer

# errors of a wrong request: a refused value, or a path that the file system refuses
REQUEST_ERRORS = (ValueError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)


def run_app(app: typer.Typer, arguments: Sequence[str] | None = None) -> int:
    """Run a command with these arguments and return its exit status: 0 done, 1 the work failed, 2 a wrong request.

    With AMR_TRACEBACK set, errors keep their traceback.
    """
    keep_traceback = bool(os.environ.get("AMR_TRACEBACK"))
    try:
        status = app(arguments, prog_name="amr", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except typer.TyperException as error:
        if not error.format_message():  # no command: the help was printed
            return 2
        return _failed(_usage_message(error, sys.argv[1:] if arguments is None else arguments), 2)
    except REQUEST_ERRORS as error:
        if keep_traceback:
            raise
        return _failed(_message(error), 2)
    except (RuntimeError, OSError, MemoryError) as error:
        if keep_traceback:
            raise
        return _failed(_message(error), 1)
    except KeyboardInterrupt:
        return _failed("stopped. Finished work is saved; run the same command to continue.", 130)


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
    return f"{text}. {help_text}"


def _help_command(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path if context is not None else 'amr'} --help"


def _failed(message: str, status: int) -> int:
    lines = " ".join(message.split("\n")[:2])
    print(f"amr: {lines}", file=sys.stderr)  # noqa: T201
    return status
