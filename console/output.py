"""Results on stdout, messages and progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

MAX_LISTED = 20


def say(text: str) -> None:
    """Print a message on stderr."""
    print(text, file=sys.stderr)  # noqa: T201


def say_notes(notes: Iterable[str], warnings: Iterable[str] = ()) -> None:
    """Print notes and warnings on stderr, one line each."""
    for note in notes:
        say(note)
    for warning in warnings:
        say(f"warning: {warning}")


def show(result: Any, as_json: bool, text: Callable[[], str | Table]) -> None:
    """Print the result of a command on stdout."""
    if as_json:
        print(json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False))  # noqa: T201
        return
    shown = text()
    if isinstance(shown, str):
        print(shown)  # noqa: T201
    else:
        # files and pipes have no width of their own
        Console(width=None if sys.stdout.isatty() else 200).print(shown)


def lines(value: Mapping[str, Any], indent: str = "") -> str:
    """Format a JSON document as lines `name: value`, nested ones indented, long lists cut."""
    result = []
    for name, item in value.items():
        if isinstance(item, Mapping) and item:
            result += [f"{indent}{name}:", lines(item, indent + "  ")]
        elif isinstance(item, list | tuple) and item:
            result += [f"{indent}{name}:", *(f"{indent}  {entry(each)}" for each in item[:MAX_LISTED])]
            result += [f"{indent}  ... and {len(item) - MAX_LISTED} more (all with --json)"] * (len(item) > MAX_LISTED)
        else:
            result.append(f"{indent}{name}: {entry(item)}")
    return "\n".join(result)


def entry(item: object) -> str:
    """Text of one value of a list."""
    if isinstance(item, Mapping):
        return ", ".join(f"{name} {value}" for name, value in item.items())
    return "-" if item is None or item in ((), [], {}) else cell(item)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """Table of texts and numbers; numbers are aligned right."""
    result = Table(title=title or None, title_justify="left", box=None, pad_edge=False, title_style="bold")
    for i, column in enumerate(columns):
        numbers = bool(rows) and all(isinstance(row[i], int | float) or row[i] in ("-", "", None) for row in rows)
        result.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        result.add_row(*(cell(value) for value in row))
    return result


def cell(value: object) -> str:
    """Text of one value of a table: numbers to 3 decimals, - for None."""
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
