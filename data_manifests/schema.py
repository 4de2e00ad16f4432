"""Schema of a table of clips; its errors name the row that breaks it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from amr.common.csv_rows import check_text

SPLITS = ("train", "val", "test")
REQUIRED = ("id", "label", "split", "group")
# Column with the text of each clip, and name of its modality.
TEXT = "text"
# Files that hold text; subtitles have times.
TEXT_SUFFIXES = (".txt", ".srt", ".vtt")
# Most classes with names like 0.5 that are still taken for classes.
MAX_FRACTIONS = 20
# Longest recording, 115 days: libraries count time in integers of limited size.
MAX_SECONDS = 10_000_000

# Other words for a split, which difflib does not match.
_SYNONYMS = {"training": "train", "valid": "val", "validation": "val", "dev": "val", "eval": "val", "testing": "test"}


@dataclass(frozen=True)
class Origin:
    """The file or dataset that a table came from, for errors.

    Args:
        name: Name of the file or dataset.
        lines: Line of each row in that file, counted from 1; None if the table was not read from a file.
        columns: Columns of that file; None for those of the table.
    """

    name: str
    lines: Sequence[int] | None = None
    columns: Sequence[str] | None = None

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


def may_hold(path: str, modality: str) -> bool:
    """Whether a file that holds all of a clip's media may hold a modality: text is in files of its own.

    >>> may_hold("a.mp4", "video"), may_hold("a.SRT", "video"), may_hold("a.SRT", "text")
    (True, False, True)
    """
    return path.lower().endswith(TEXT_SUFFIXES) == (modality == TEXT)


def check_table(table: pd.DataFrame, origin: Origin) -> None:
    """Raise ValueError for a table of clips that breaks the schema.

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
    if not path_columns(list(table.columns)) and TEXT not in table.columns:
        columns = table.columns if origin.columns is None else origin.columns
        raise ValueError(
            f"{origin.name} must have a column path, or <modality>_path such as audio_path, or text, "
            f"got {', '.join(columns)}. Add one with each clip's file."
        )
    if table.isna().any(axis=None):
        raise ValueError(f'{origin.name} must hold only text, got NaN. Write "" for absent values.')
    if table.empty:
        raise ValueError(f"{origin.name} must list at least one clip, got none. Add one row per clip.")
    for name in sorted(map(str, table.columns), key="id".__eq__):  # an id may be made from a path
        check_text([name], "name of a column", lambda _: f"the first line of {origin.name}")
        check_text(table[name].tolist(), name, origin.row)
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
            f"{_advice_on_repeated(table, first, row)}"
        )


def _advice_on_repeated(table: pd.DataFrame, first: int, row: int) -> str:
    """What to do about two rows of one id: rows of the same medium are one clip, written once per label."""
    media = [*path_columns(list(table.columns)), TEXT, "start_seconds", "end_seconds"]
    pair = table.iloc[[first, row]]
    one, other = pair["label"]
    if one == other or any(pair[name].nunique() > 1 for name in media if name in table.columns):
        return "Give each clip its own id in a column id."
    return (
        f"Join the labels of a clip with ; in one row, such as '{one};{other}', and pass --label-separator ';' to "
        "amr fit."
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
    leaves = table[column].str.contains(r"^/?\.?$|(?:^|/)\.\.(?:/|$)", regex=True) & (table[column] != "")
    if (row := _first(leaves)) is not None:
        raise ValueError(
            f"{column} must stay inside the root, got {table[column].iloc[row]!r} on "
            f"{origin.row(row, table['id'].iloc[row])}. Pass --root with a folder that holds every clip, or write an "
            "absolute path."
        )


def _seconds(value: str) -> float:
    """Time in seconds; NaN if the text is not a number from 0 to MAX_SECONDS."""
    try:
        number = float(value)
    except ValueError:
        return math.nan
    return number if 0 <= number <= MAX_SECONDS else math.nan


def _check_intervals(table: pd.DataFrame, origin: Origin) -> None:
    times: dict[str, pd.Series] = {}
    for column in ("start_seconds", "end_seconds"):
        if column not in table.columns:
            continue
        times[column] = table[column].map(_seconds).astype(float)
        if (row := _first((table[column] != "") & times[column].isna())) is not None:
            raise ValueError(
                f"{column} must be a number of seconds from 0 to {MAX_SECONDS:,}, got {table[column].iloc[row]!r} on "
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


def strip_values(table: pd.DataFrame, columns: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """Table without blanks around the values of some columns, so that 'cat ' and 'cat' are one class; and notes."""
    notes = []
    for column in columns:
        if column not in table.columns:
            continue
        stripped = table[column].str.strip()
        changed = (stripped != table[column]) & (stripped != "")
        if (row := _first(changed)) is not None:
            values = counted(int(changed.sum()), "value", "values")
            notes.append(f"{column}: blanks around {values} are left out, such as in {table[column].iloc[row]!r}")
        table = table.assign(**{column: stripped})
    return table, notes


def counted(number: int, one: str, many: str) -> str:
    """Number with its words.

    >>> counted(1, "clip has", "clips have"), counted(2000, "clip has", "clips have")
    ('1 clip has', '2,000 clips have')
    """
    return f"{number:,} {one if number == 1 else many}"


def divided_groups(table: pd.DataFrame, column: str = "split") -> list[str]:
    """Note on the groups that a given split divides; empty if it divides none.

    >>> clips = pd.DataFrame({"group": ["ann", "ann", "bob"], "split": ["train", "test", "train"]})
    >>> divided_groups(clips)[0].partition(" in more")[0]
    'split: 1 of 2 groups has clips'
    """
    divided = _divided(table, column)
    if not divided:
        return []
    apart = undivided_policy(table, column)
    policy = f"amr fit --split-policy {apart} or --folds 5" if apart else "amr fit --folds 5"
    num_groups = table.loc[table["group"] != "", "group"].nunique()
    return [
        f"{column}: {len(divided)} of {num_groups} groups {'has' if len(divided) == 1 else 'have'} clips "
        "in more than one of train, val and test, such as "
        f"{divided[0]!r}; test accuracy then includes recognizing the group. {policy} keeps groups together."
    ]


def undivided_policy(table: pd.DataFrame, column: str = "split") -> str | None:
    """First split policy, other than that of a column, that divides no group; None if there is none.

    >>> clips = pd.DataFrame({"group": ["ann", "ann"], "split": ["train", "test"], "split_ann": ["train", "train"]})
    >>> undivided_policy(clips), undivided_policy(clips.drop(columns="split_ann"))
    ('ann', None)
    """
    policies = [name for name in split_columns(list(table.columns)) if name not in ("split", column)]
    apart = (name for name in policies if table[name].ne("").any() and not _divided(table, name))
    return next((name.removeprefix("split_") for name in apart), None)


def _divided(table: pd.DataFrame, column: str) -> list[str]:
    """Groups with clips in more than one split, in the table's order."""
    clips = table[(table["group"] != "") & (table[column] != "")]
    num_splits = clips.groupby("group", sort=False)[column].nunique()
    return list(num_splits.index[num_splits > 1])


def continuous_numbers(values: Iterable[str]) -> list[float]:
    """Distinct numbers of continuous labels, in order; none if the labels are classes.

    Labels are continuous if all are numbers, and more than half of them or more than `MAX_FRACTIONS` differ; whole
    numbers, which may be codes of classes, only if both.

    Args:
        values: Labels as text; "" if a clip has none.

    >>> continuous_numbers(["0.25", "-1.5", ""]), continuous_numbers(["1", "2"])
    ([-1.5, 0.25], [])
    >>> len(continuous_numbers(map(str, range(40)))), continuous_numbers(map(str, [*range(40)] * 2))
    (40, [])
    """
    labels = [value for value in values if value]
    distinct = set(labels)
    are_many, differ = len(distinct) > MAX_FRACTIONS, 2 * len(distinct) > len(labels)
    if not (are_many or differ):
        return []
    try:
        numbers = sorted(number for number in map(float, distinct) if math.isfinite(number))
    except ValueError:
        return []
    are_whole = all(number.is_integer() for number in numbers)
    return numbers if not are_whole or (are_many and differ) else []


def check_classes(values: Iterable[str], name: str = "label") -> None:
    """Raise ValueError for labels that are continuous numbers: a classifier would treat each as a class.

    Args:
        values: Labels as text; "" if a clip has none.
        name: Name of the column.

    Raises:
        ValueError: The labels are continuous.
    """
    labels = [value for value in values if value]
    numbers = continuous_numbers(labels)
    if numbers:
        example = next((number for number in numbers if not number.is_integer()), numbers[0])
        raise ValueError(
            f"--label must name a column of classes, got {name!r} with {len(numbers)} different numbers for "
            f"{len(labels)} clips, such as {example:g}. Pass --task regression to amr fit, or bin them into "
            "classes in another column, and pass --label with that column."
        )
