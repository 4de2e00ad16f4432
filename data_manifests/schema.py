"""Schema of a table of clips; its errors name the row that breaks it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

SPLITS = ("train", "val", "test")
REQUIRED = ("id", "label", "split", "group")

# Other words for a split, which difflib does not match.
_SYNONYMS = {"training": "train", "valid": "val", "validation": "val", "dev": "val", "eval": "val", "testing": "test"}


@dataclass(frozen=True)
class Origin:
    """The file or dataset that a table came from, for errors.

    Args:
        name: Name of the file or dataset.
        lines: Line of each row in that file, counted from 1; None if the table was not read from a file.
    """

    name: str
    lines: Sequence[int] | None = None

    def row(self, row: int, clip_id: str | None = None) -> str:
        """Description of a row, such as "line 3 of clips.csv (id '007')"."""
        place = f"line {self.lines[row]} of" if self.lines is not None else f"row {row} of"
        return f"{place} {self.name}" + (f" (id {clip_id!r})" if clip_id else "")


def split_columns(columns: Sequence[str]) -> list[str]:
    """Columns that hold a split: `split`, and `split_<policy>` of each other policy."""
    return [name for name in columns if name == "split" or name.startswith("split_")]


def path_columns(columns: Sequence[str]) -> list[str]:
    """Columns that hold a path: `path`, and `<modality>_path` of each modality."""
    return [name for name in columns if name == "path" or (name.endswith("_path") and name != "_path")]


def check_table(table: pd.DataFrame, origin: Origin) -> None:
    """Refuse a table of clips that breaks the schema.

    Args:
        table: Table `(clips, columns)`, every value str, "" if absent.
        origin: Origin of the table, for errors.

    Raises:
        ValueError: A column is missing, no clip is listed, an id is empty or repeated, a split is unknown, a relative
            path leaves the root, or an interval is empty or not a number. The message names the row.
    """
    missing = [name for name in REQUIRED if name not in table.columns]
    if missing:
        raise ValueError(f"{origin.name} must have columns {', '.join(REQUIRED)}, got no {', '.join(missing)}. Add it.")
    if not path_columns(list(table.columns)):
        raise ValueError(
            f"{origin.name} must have a column path, or <modality>_path such as audio_path, "
            f"got {', '.join(table.columns)}. Add one with each clip's file."
        )
    if table.isna().any(axis=None):
        raise ValueError(f'{origin.name} must hold only text, got NaN. Write "" for absent values.')
    if table.empty:
        raise ValueError(f"{origin.name} must list at least one clip, got none. Add one row per clip.")
    _check_ids(table, origin)
    for name in split_columns(list(table.columns)):
        _check_splits(table, name, origin)
    for name in path_columns(list(table.columns)):
        _check_paths(table, name, origin)
    _check_intervals(table, origin)


def _first(wrong: pd.Series) -> int | None:
    """First wrong row, None if there is none."""
    return int(wrong.to_numpy().argmax()) if wrong.any() else None


def _check_ids(table: pd.DataFrame, origin: Origin) -> None:
    ids = table["id"]
    if (row := _first(ids == "")) is not None:
        raise ValueError(f"id must not be empty, got '' on {origin.row(row)}. Give each clip its own id.")
    if (row := _first(ids.duplicated())) is not None:
        first = ids.tolist().index(ids.iloc[row])
        raise ValueError(
            f"id must be unique, got {ids.iloc[row]!r} on {origin.row(first)} and again on {origin.row(row)}. "
            "Give each clip its own id in a column id."
        )


def _check_splits(table: pd.DataFrame, column: str, origin: Origin) -> None:
    row = _first(~table[column].isin(["", *SPLITS]))
    if row is None:
        return
    value = table[column].iloc[row]
    word = value.strip().lower()
    close = _SYNONYMS.get(word) or next(iter(difflib.get_close_matches(word, SPLITS, n=1)), None)
    hint = f"Did you mean {close}?" if close else "Leave it empty for a clip in no split."
    raise ValueError(
        f"{column} must be one of {', '.join(SPLITS)}, got {value!r} on "
        f"{origin.row(row, table['id'].iloc[row])}. {hint}"
    )


def _check_paths(table: pd.DataFrame, column: str, origin: Origin) -> None:
    leaves = table[column].str.contains(r"^/?\.?$|(?:^|/)\.\.(?:/|$)|\x00", regex=True) & (table[column] != "")
    if (row := _first(leaves)) is not None:
        raise ValueError(
            f"{column} must stay inside the root, got {table[column].iloc[row]!r} on "
            f"{origin.row(row, table['id'].iloc[row])}. Pass --root with a folder that holds every clip, or write an "
            "absolute path."
        )


def _seconds(value: str) -> float:
    """Time in seconds; NaN if the text is not a finite number of at least 0."""
    try:
        number = float(value)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) and number >= 0 else math.nan


def _check_intervals(table: pd.DataFrame, origin: Origin) -> None:
    times: dict[str, pd.Series] = {}
    for column in ("start_seconds", "end_seconds"):
        if column not in table.columns:
            continue
        times[column] = table[column].map(_seconds).astype(float)
        if (row := _first((table[column] != "") & times[column].isna())) is not None:
            raise ValueError(
                f"{column} must be a number of seconds of at least 0, got {table[column].iloc[row]!r} on "
                f"{origin.row(row, table['id'].iloc[row])}. Leave it empty for the whole file."
            )
    if "end_seconds" not in times:
        return
    # An interval without a start begins at 0.
    start = times["start_seconds"].fillna(0.0) if "start_seconds" in times else 0.0
    if (row := _first(times["end_seconds"] <= start)) is not None:
        began = table["start_seconds"].iloc[row] if "start_seconds" in times else ""
        raise ValueError(
            f"end_seconds must be after start_seconds, got {table['end_seconds'].iloc[row]!r} with start "
            f"{began or '0'!r} on {origin.row(row, table['id'].iloc[row])}. Swap or correct them."
        )
