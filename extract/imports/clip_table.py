"""Table of the clips of an import: ids, labels, groups, splits and further columns."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from amr import data_manifests
from amr.common.csv_rows import check_header, check_text, read_csv_rows
from amr.common.registry import unknown
from amr.data_manifests.schema import SPLITS, check_classes, counted, divided_groups, strip_values
from amr.extract.arrays import Expected, parse_array_spec, read_rows
from amr.extract.config import ImportConfig
from amr.extract.imports.sources import ClipIds, Source, flat, join, one_per_clip

# Columns about media files: an import has none, so they would only mislead.
_ABOUT_MEDIA = ("path", "start_seconds", "end_seconds")


def make_clip_table(config: ImportConfig, clips: ClipIds) -> tuple[pd.DataFrame, list[str]]:
    """Table of the clips, every column text; and notes on what did not match, was changed, or will be refused."""
    _check_ids(clips.ids, config.ids)
    check_text(clips.ids, "--ids", lambda row: f"row {row} of {config.ids or 'the embeddings'}")
    columns, notes = {"id": clips.ids}, []
    for name, option, text in (("label", "--labels", config.labels), ("group", "--groups", config.groups)):
        if text is not None and text.startswith("ids:") and name == "group":
            columns[name] = _groups_in_ids(text, clips.ids)
        elif text is not None:
            columns[name], more = read_column(option, text, clips, name)
            notes += more
    if config.splits is not None:
        columns["split"], more = _splits(config.splits, clips)
        notes += more
    table = pd.DataFrame(columns, dtype=str)
    if config.columns is not None:
        table, more = _join_columns(table, config.columns)
        notes += more
    for name in ("label", "split", "group"):
        if name not in table:
            table[name] = ""
    table, more = strip_values(table, ("label", "split", "group"))
    notes += more
    for name in map(str, table):
        check_text(table[name].tolist(), name, lambda row: f"row {row}")
    _check_splits(table["split"].tolist(), config)
    first = ["id", "label", "split", "group"]
    others = [str(name) for name in table if name not in first]
    notes += _unlabelled(table["label"].tolist(), others)
    table = table[[*first, *others]]
    return table, [*notes, *_refused_labels(table), *divided_groups(table)]


def _check_ids(ids: list[str], file: str | None) -> None:
    seen: dict[str, int] = {}
    for row, id_ in enumerate(ids):
        if not id_ or id_ in seen:
            place = f"{id_!r} in row {row}" + (f" and in row {seen[id_]}" if id_ else "")
            raise ValueError(f"--ids must be unique and not empty, got {place} of {file}. Correct the file.")
        seen[id_] = row


def _unlabelled(labels: list[str], others: list[str]) -> list[str]:
    """Note that no clip has a label, if other columns can be predicted.

    Raises:
        ValueError: There are no other columns.
    """
    if any(labels):
        return []
    if not others:
        raise ValueError("label must be given for at least one clip, got none. Pass --labels FILE.")
    return [f"no clip has a label: name the column to predict in amr fit, such as --label {others[0]}"]


def _refused_labels(table: pd.DataFrame) -> list[str]:
    """Note on labels that a training will refuse."""
    labels = table["label"].tolist()
    classes = set(labels) - {""}
    if len(classes) == 1:
        return [f"label: every clip is {classes.pop()!r}: amr fit will refuse a single class. Pass --labels FILE."]
    try:
        check_classes(labels)
    except ValueError as error:
        return [f"label: stored as it is, but amr fit will not take it for classes: {error}"]
    return []


def read_column(option: str, text: str, clips: ClipIds, column: str) -> tuple[list[str], list[str]]:
    """Read one text per clip from a file, "" if it has none for the clip; also return notes.

    Args:
        option: Option that names the file.
        text: FILE[:KEY...].
        clips: Ids of the clips.
        column: Column that is read from a table without a key.
    """
    spec = parse_array_spec(text, option)
    expected = Expected(column, len(clips), clips.ids if clips.given else ())
    source = flat(Source(option, spec, read_rows(spec, expected)))
    verbatim = column == "group"
    one_per_clip(source, verbatim=verbatim)  # before a join, so that the error shows the file's own shape
    rows, notes = join(source, clips)
    return one_per_clip(Source(source.name, spec, rows), verbatim=verbatim), notes


def read_lengths(text: str, clips: ClipIds) -> tuple[np.ndarray, list[str]]:
    """Read the number of steps of each clip, `(clips,)` float, NaN if the file lacks the clip; also return notes."""
    values, notes = read_column("--lengths", text, clips, "length")
    try:
        return np.array([float(value or "nan") for value in values]), notes
    except ValueError as error:
        raise ValueError(
            f"--lengths must be numbers, got {error} in {text}. Name a file, column or key of numbers."
        ) from None


def _groups_in_ids(text: str, ids: list[str]) -> list[str]:
    try:
        pattern = re.compile(text.removeprefix("ids:"))
    except re.error as error:
        raise ValueError(
            f"--groups ids:REGEX must be a regular expression, got {text!r} ({error}). Pass for example 'ids:^[0-9]+'."
        ) from error
    found = [pattern.search(id_) for id_ in ids]
    for id_, match in zip(ids, found, strict=True):
        if match is None:
            raise ValueError(f"--groups {text} must match every id, got {id_!r}. Widen the expression.")
    return [(match[1] if pattern.groups else match[0]) or "" for match in found if match is not None]


def _splits(text: str, clips: ClipIds) -> tuple[list[str], list[str]]:
    if "=" not in text or Path(text).is_file():
        return read_column("--splits", text, clips, "split")
    values: list[str] = []
    for item in text.split(","):
        name, _, count = item.strip().partition("=")
        if name not in SPLITS:
            raise unknown("--splits name", name, SPLITS)
        if not re.fullmatch(r"[0-9]+", count):
            raise ValueError(
                f"--splits {name} must be a number of rows, got {count!r}. Pass --splits train=1600,test=400."
            )
        values += [name] * int(count)
    if len(values) != len(clips):
        raise ValueError(
            f"--splits must add up to the {len(clips)} rows of the embeddings, got {len(values)} ({text}). "
            "Correct the counts."
        )
    return values, []


def _check_splits(values: list[str], config: ImportConfig) -> None:
    for row, value in enumerate(values):
        if value not in ("", *SPLITS):
            where = "--splits" if config.splits is not None else "split of --columns"
            raise unknown(f"{where} in row {row}", value, SPLITS)


def _join_columns(table: pd.DataFrame, text: str) -> tuple[pd.DataFrame, list[str]]:
    """Join the columns of a CSV on the id; "" if the CSV lacks the clip."""
    name, rows = _read_columns(text)
    index = {row["id"]: row for row in reversed(rows)}
    if len(index) != len(rows):
        repeated = next(id_ for id_, count in Counter(row["id"] for row in rows).items() if count > 1)
        raise ValueError(f"--columns must have each id once, got {repeated!r} more than once in {name}. Correct it.")
    header = [column for column in rows[0] if column != "id"]
    duplicate = [column for column in header if column in table]
    skipped = [column for column in header if column in _ABOUT_MEDIA or column.endswith("_path")]
    matched = [index.get(id_, {}) for id_ in table["id"]]
    joined = table.copy()
    for column in header:
        if column not in duplicate and column not in skipped:
            joined[column] = [row.get(column, "") for row in matched]
    num_matched = sum(bool(row) for row in matched)
    if num_matched == 0:
        raise ValueError(
            f"--columns must share ids with the clips, got {rows[0]['id']!r}, ... in {name} and "
            f"{table['id'].iloc[0]!r}, ... here. Pass --ids FILE."
        )
    num_extra = len(rows) - num_matched
    left_out = f"; left out: {counted(num_extra, 'id', 'ids')} of no clip" if num_extra else ""
    notes = [f"--columns {name}: a row for {num_matched} of {len(table)} clips{left_out}"]
    if duplicate:
        hint = "; leave out --labels to use its label" if "label" in duplicate else ""
        notes.append(f"--columns {name}: {', '.join(duplicate)} left out, since options give them{hint}")
    return joined, notes


def _read_columns(text: str) -> tuple[str, list[dict[str, str]]]:
    """Read the name and rows of a CSV, or of the list of a dataset."""
    path = Path(text) if Path(text).is_file() else _shipped_list(text)
    found = [row for row in read_csv_rows(path)[0] if row]
    header, rows = (found[0], found[1:]) if found else ([], [])
    if header:
        check_header(header, f"--columns {path.name}")
        check_text(header, "name of a column", lambda _: f"the first line of {path.name}")
    if "id" not in header or not rows:
        raise ValueError(
            f"--columns must have a column id and a row, got {', '.join(header) or 'nothing'} in {text}. "
            "Rename the column of ids to id."
        )
    return text, [dict(zip(header, [*row, *[""] * (len(header) - len(row))], strict=False)) for row in rows]


def _shipped_list(dataset: str) -> Path:
    """List of clips that ships with a dataset."""
    folder = Path(data_manifests.__path__[0])
    lists = {path.stem.replace("_", "-"): path for path in sorted(folder.glob("*.csv"))}
    if dataset not in lists:
        known = ", ".join(lists) or "none"
        raise FileNotFoundError(
            f"--columns must be a CSV file or a dataset with a list ({known}), got {dataset!r}. Check the path."
        )
    return lists[dataset]
