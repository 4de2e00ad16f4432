"""Results on stdout, messages and progress on stderr."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import TextType

if TYPE_CHECKING:
    from amr.fusion.sweep.sweep import SweepResult

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


def say_results(result: SweepResult, as_json: bool) -> None:
    """Print the best settings of a sweep, where its files are, and what to type next.

    Raises:
        RuntimeError: Runs diverged.
    """
    from amr.fusion.sweep.summary import best_by_val, write_picture

    say_notes(result.notes, result.warnings)
    if not result.rows and not result.diverged:
        say("the clips have neither a val nor a test split: the runs are written but not measured")
        show([], as_json, lambda: "")
        return
    if result.rows:
        title = "best by val accuracy; test accuracy, mAP and share beside it"
        show(result.to_json(), as_json, lambda: table(title, *best_by_val(result.table)))
        say(f"{result.folder / 'results.csv'}, {write_picture(result)}")
        say_next(result.folder)
    refuse_diverged(result.diverged)


def say_next(folder: Path) -> None:
    """Say which run of a sweep is best on val, and the commands that use it."""
    from amr.fusion.runs.read import best_run

    quoted = shlex.quote(str(folder))
    try:
        best = best_run(folder)
    except ValueError:  # no run has val clips
        say(f"next: amr evaluate {quoted}")
        return
    accuracy = "" if best.val is None else f" (val accuracy {best.val['accuracy']:.3f})"
    say(f"best by val: {best.folder}{accuracy}")
    say(f"next: amr predict {shlex.quote(str(best.folder))} CLIP, or amr evaluate {quoted}")


def refuse_diverged(names: Sequence[str]) -> None:
    """Raise RuntimeError if runs diverged."""
    if names:
        count = "1 run" if len(names) == 1 else f"{len(names)} runs"
        raise RuntimeError(
            f"the loss must stay finite, got {count} that diverged: {', '.join(names)}. Pass a smaller --lr."
        )
