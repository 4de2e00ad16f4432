"""Results on stdout, messages and progress on stderr."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text, TextType

from amr.common.options import CONTROLS, number_text, printable, quoted
from amr.fusion.choices import SCORES
from amr.fusion.config import FitConfig

if TYPE_CHECKING:
    from amr.fusion.runs.record import RunRecord
    from amr.fusion.sweep.sweep import SweepResult

MAX_LISTED = 20
MAX_SETTINGS = 10  # of a sweep that are printed
PIPE_WIDTH = 200  # files and pipes have no width of their own
GAP = 2  # blanks between columns


def say(text: str) -> None:
    """Print a message on stderr, in one line."""
    print(printable(text), file=sys.stderr)  # noqa: T201


def say_notes(notes: Iterable[str], warnings: Iterable[str] = ()) -> None:
    """Print notes and warnings on stderr, one line each."""
    for note in notes:
        say(note)
    for warning in warnings:
        say(f"warning: {warning}")


def show(result: Any, as_json: bool, text: Callable[[], str | Table]) -> None:
    """Print the result of a command on stdout."""
    if as_json:
        document = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
        print("\n".join(CONTROLS.sub(_json_escape, line) for line in document.split("\n")))  # noqa: T201
        return
    shown = text()
    if isinstance(shown, str):
        print("\n".join(map(printable, shown.split("\n"))))  # noqa: T201
    else:
        console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
        for part in fitting(shown, console.width):
            console.print(part)


def _json_escape(found: re.Match[str]) -> str:
    """A control character as in JSON, which itself escapes only those below 0x20."""
    return f"\\u{ord(found[0]):04x}"


def lines(value: Mapping[str, Any], indent: str = "") -> str:
    """Format a JSON document as lines `name: value`, nested ones indented, long lists cut."""
    result = []
    for name, item in value.items():
        if isinstance(item, Mapping) and item:
            result += [f"{indent}{printable(name)}:", lines(item, indent + "  ")]
        elif isinstance(item, list | tuple) and item:
            result += [f"{indent}{printable(name)}:", *(f"{indent}  {entry(each)}" for each in item[:MAX_LISTED])]
            result += [f"{indent}  ... and {len(item) - MAX_LISTED} more (all with --json)"] * (len(item) > MAX_LISTED)
        else:
            result.append(f"{indent}{printable(name)}: {entry(item)}")
    return "\n".join(result)


def entry(item: object) -> str:
    """Text of one value of a list."""
    if isinstance(item, Mapping) and item:
        return printable(", ".join(f"{name} {value}" for name, value in item.items()))
    return "-" if item is None or item in ((), [], {}) else cell(item)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """Table of texts and numbers; numbers are aligned right. Nothing in it is read as markup."""
    result = Table(title=_plain(title, "bold") if title else None, title_justify="left", box=None, pad_edge=False)
    for i, column in enumerate(columns):
        numbers = bool(rows) and all(isinstance(row[i], int | float) or row[i] in ("-", "", None) for row in rows)
        result.add_column(_plain(column), justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        result.add_row(*(Text(cell(value)) for value in row))
    return result


def _plain(text: str, style: str = "") -> Text:
    """Text for rich that shows brackets and emoji codes as they are."""
    return Text(printable(text), style=style)


def fitting(whole: Table, width: int) -> list[Table]:
    """Divide a table that is too wide into several below each other, all with its first columns of text.

    >>> parts = fitting(table("", ["a", "b", "c"], [[1, 2, 3]]), 5)
    >>> [[str(column.header) for column in part.columns] for part in parts]
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
    part = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        part.add_column(column.header, justify=column.justify, overflow="fold")
    for cells in zip(*(column.cells for column in columns), strict=True):
        part.add_row(*cells)
    return part


def cell(value: object) -> str:
    """Text of one value of a table: numbers to 3 decimals, - for None."""
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else printable(str(value))


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
        words = [*SCORES[result.task].main.values()]
        title = f"best by val {words[0]}; test {', '.join(words)} and share beside it"
        columns, rows = best_by_val(result)
        show(result.to_json(), as_json, lambda: table(title, columns, rows[:MAX_SETTINGS]))
        if len(rows) > MAX_SETTINGS and not as_json:
            say(f"... and {len(rows) - MAX_SETTINGS} more settings in results.csv")
        say(f"{result.folder / 'results.csv'}, {write_picture(result)}")
        say_next(result.folder)
    refuse_diverged(result.diverged)


def say_next(folder: Path) -> None:
    """Say which run of a sweep is best on val, and the commands that use it."""
    from amr.fusion.runs.read import best_run

    try:
        best = best_run(folder)
    except ValueError:  # no run has val clips
        say(f"next: amr evaluate {quoted(folder)}")
        return
    say(f"best by val: {best.folder}{best.val_score_text}")
    say(f"next: amr predict {quoted(best.folder)} CLIP, or amr evaluate {quoted(folder)}")


def refuse_diverged(names: Sequence[str]) -> None:
    """Raise RuntimeError if runs diverged."""
    if names:
        count = "1 run" if len(names) == 1 else f"{len(names)} runs"
        raise RuntimeError(
            f"the loss must stay finite, got {count} that diverged: {', '.join(names)}. Pass a smaller --lr."
        )


def measures_table(record: RunRecord, splits: Mapping[str, Any]) -> Table:
    """Table with one row per split and modality; its title has the ratio and the attribution that was regularized."""
    config = record.config
    headings = {"share": "share", "share_logit": "logit share", "perceptual": "use"}
    settings = (config.attribution, config.attribution_output, config.attribution_pooling)
    if settings != (FitConfig.attribution, FitConfig.attribution_output, FitConfig.attribution_pooling):
        title = f"{attribution_text(config)} share"
        if title not in headings.values():  # gradient x input of the logit is shown for every run
            headings = {"share": "share", "share_regularized": title} | headings
    weight = number_text(config.regularizer_weight)
    on = f" on {config.attribution}" * (config.attribution != FitConfig.attribution)
    title = "" if record.named_ratio is None else f"AMR {record.named_ratio}{on}, weight {weight}"
    of_task = SCORES[config.task].measures
    rows: list[list[object]] = []
    for name, measures in splits.items():
        if measures is None:
            continue
        scores = [measures[score] for score in ("num_clips", *of_task)]
        for i, modality in enumerate(measures["share"]):
            of_split = scores if i == 0 else [""] * len(scores)
            shares = [measures[measure][modality] for measure in headings]
            rows.append([name if i == 0 else "", modality, *of_split, *shares])
    return table(title, ["", "modality", "clips", *of_task.values(), *headings.values()], rows)


def attribution_text(config: FitConfig) -> str:
    """Attribution of a run's settings in short: its name, and what differs from the defaults."""
    name = "" if config.attribution == FitConfig.attribution else config.attribution
    output = "" if config.attribution_output == FitConfig.attribution_output else config.attribution_output
    pooling = "" if config.attribution_pooling == FitConfig.attribution_pooling else config.attribution_pooling
    return " ".join(part for part in (name, output, pooling) if part)
