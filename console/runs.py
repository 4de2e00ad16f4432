"""`amr runs`: runs, sweeps and tables with their settings and results."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from amr.common.options import number_text
from amr.common.registry import unknown
from amr.common.workspace import find_folder
from amr.console.commands import Json
from amr.console.output import GAP, PIPE_WIDTH, cell, say, show, table
from amr.fusion.attribution.ratio import named_ratio

if TYPE_CHECKING:
    from amr.fusion.sweep.listing import Entry

FORMATS = ("table", "csv")
# columns of the table and their headings, the most important first; settings only if they differ between rows
RESULTS = {"val.accuracy": "val", "test.accuracy": "test"}
SETTINGS = (
    *("amr_ratio", "method", "head", "seed", "amr_weight", "lr", "label", "modalities"),
    *("epochs", "hidden", "experts", "adapter", "attribution", "folds", "batch_size", "weight_decay"),
    *("recipe", "optimizer", "momentum", "lr_step", "lr_factor"),
)
LATER = {"test.map": "mAP", "test.f1": "F1"}
OF_NUMBERS = {"test.mae": "MAE", "test.pearson": "Pearson"}


def add_runs(app: typer.Typer) -> None:
    """Add `amr runs` to an app."""
    app.command("runs")(show_runs)


def show_runs(
    folder: Annotated[
        str | None, typer.Argument(metavar="DIR", help="Folder to search, or a sweep; runs/ and encoders/ by default.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help="COLUMN=VALUE: only these, such as method=ogm-ge or amr_ratio=none. Repeatable."),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            help="Column to sort by: test.accuracy, test.mae and other measures with the best first; lr, seed."
        ),
    ] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="Sort the other way around.")] = False,
    format: Annotated[str, typer.Option(help="table: the columns that fit; csv: every setting and result.")] = FORMATS[
        0
    ],
    json: Json = False,
) -> None:
    """List runs, sweeps, tables and trainings of encoders with their settings and results."""
    if format not in FORMATS:
        raise unknown("--format", format, FORMATS)
    if json and format == "csv":
        raise ValueError("--format must be left out with --json, got csv. Leave one of them out.")
    if folder is not None:
        find_folder(folder, "DIR")
    from amr.fusion.sweep.listing import list_runs

    entries = list_runs(folder, where=where or (), sort=sort, reverse=reverse)
    requested = [text.partition("=")[0] for text in where or ()] + ([] if sort is None else [sort])
    text = _csv if format == "csv" else lambda entries: _table(entries, requested)
    if entries or json:
        show([entry.to_json() for entry in entries], json, lambda: text(entries))
    if not entries:
        say("no runs here" if where else "no runs here. Make one with amr fit or amr sweep.")


def _csv(entries: Sequence[Entry]) -> str:
    """CSV with a column for every setting and result."""
    rows = [entry.row() for entry in entries]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_text(row.get(name), "") for name in columns])
    return file.getvalue().rstrip("\n")


def _table(entries: Sequence[Entry], requested: Sequence[str]) -> Table:
    """Table of the most important columns that fit, and of those that were requested."""
    from amr.fusion.sweep.listing import column_name

    rows = [entry.row() | {"run": _name(entry)} | _ratio(entry) for entry in entries]
    names = list(dict.fromkeys(name for row in rows for name in row))
    titles = {"run": "run", **RESULTS}
    titles |= {name: titles.get(name, name) for each in requested if (name := column_name("--sort", each, names))}
    num_requested = len(titles)
    varied = [name for name in SETTINGS if len({str(row[name]) for row in rows if name in row}) > 1]
    shares = {name: name.removeprefix("test.") for name in names if name.startswith("test.share.")}
    of_numbers = {name: title for name, title in OF_NUMBERS.items() if name in names}
    titles |= {name: name for name in varied if name not in titles} | of_numbers | LATER | shares
    cells = {name: [_shown(row.get(name), setting=name in SETTINGS) for row in rows] for name in titles}
    shown = _fitting(titles, cells, num_requested)
    return table("", [titles[name] for name in shown], list(zip(*(cells[name] for name in shown), strict=True)))


def _name(entry: Entry) -> str:
    """Name of a run, with its state if it is not finished, and why; of several, with their number or modalities."""
    if entry.kind in ("sweep", "table", "frontier") or (entry.state == "finished" and entry.note):
        return f"{entry.run} ({entry.note})"
    if entry.state == "finished":
        return entry.run
    return f"{entry.run} ({entry.state}: {entry.note})" if entry.note else f"{entry.run} ({entry.state})"


def _ratio(entry: Entry) -> dict[str, str]:
    """Ratio of a run with the names of its modalities; empty for sweeps and damaged runs."""
    if not entry.settings:
        return {}
    ratio = entry.settings["amr_ratio"]
    return {"amr_ratio": "none" if ratio is None else named_ratio(ratio, entry.settings["modalities"])}


def _fitting(titles: dict[str, str], cells: dict[str, list[Any]], least: int) -> list[str]:
    """Columns that fit next to each other, but at least the first few."""
    width = Console().width if sys.stdout.isatty() else PIPE_WIDTH
    shown: list[str] = []
    used = -GAP
    for name, title in titles.items():
        used_with = used + GAP + max(cell_len(cell(value)) for value in (title, *cells[name]))
        if len(shown) < least or used_with <= width:
            shown.append(name)
            used = used_with
    return shown


def _shown(value: Any, *, setting: bool) -> Any:
    """Value of a cell: numbers as they are, all else as text. Settings, such as 5e-05, are not rounded."""
    if setting and isinstance(value, float):
        return number_text(value)
    return value if isinstance(value, float | int) and not isinstance(value, bool) else _text(value, "-")


def _text(value: Any, absent: str) -> str:
    if value is None or value == "" or value == []:
        return absent
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
