"""Results on stdout, messages and progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import TextType

MAX_LISTED = 20
PIPE_WIDTH = 200  # files and pipes have no width of their own
GAP = 2  # blanks between columns


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
        console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
        for part in fitting(shown, console.width):
            console.print(part)


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


def fitting(whole: Table, width: int) -> list[Table]:
    """Divide a table that is too wide into several below each other, all with its first columns of text.

    >>> [[column.header for column in part.columns] for part in fitting(table("", ["a", "b", "c"], [[1, 2, 3]]), 5)]
    [['a', 'b'], ['a', 'c']]
    """
    columns = whole.columns
    widths = [max(map(cell_len, [str(column.header), *map(str, column.cells)])) for column in columns]
    if sum(widths) + GAP * (len(columns) - 1) <= width:
        return [whole]
    keys = [0]
    for i in range(1, len(columns) - 1):
        if columns[i].justify != "left" or sum(widths[: i + 1]) > width / 2:
            break
        keys.append(i)
    parts: list[list[int]] = [[*keys]]
    for i in range(len(keys), len(columns)):
        if len(parts[-1]) > len(keys) and sum(widths[j] + GAP for j in parts[-1]) + widths[i] > width:
            parts.append([*keys])
        parts[-1].append(i)
    return [_part(whole, indices, whole.title if number == 0 else None) for number, indices in enumerate(parts)]


def _part(whole: Table, indices: Sequence[int], title: TextType | None) -> Table:
    columns = [whole.columns[i] for i in indices]
    part = Table(title=title, title_justify="left", box=None, pad_edge=False, title_style="bold")
    for column in columns:
        part.add_column(column.header, justify=column.justify, overflow="fold")
    for cells in zip(*(column.cells for column in columns), strict=True):
        part.add_row(*cells)
    return part


def cell(value: object) -> str:
    """Text of one value of a table: numbers to 3 decimals, - for None."""
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
