"""Columns of tables (.csv, .parquet), and text files with one value per line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd

from amr.common.csv_rows import read_csv_rows, read_utf8
from amr.extract.arrays.keys import is_pattern, matching, some, unknown_key
from amr.extract.arrays.rows import ArraySpec, Expected, Rows
from amr.extract.arrays.stack import stack_clips

# Columns that say something about a clip and are no features.
_ABOUT_CLIPS = ("id", "label", "split", "group", "path", "start_seconds", "end_seconds")


def read_csv(spec: ArraySpec, expected: Expected) -> Rows:
    """Read columns of a CSV file, with or without a header."""
    all_rows, lines = read_csv_rows(spec.path)
    rows = [(row, line) for row, line in zip(all_rows, lines, strict=True) if row]
    if not rows:
        raise ValueError(f"{spec.path.name} must have rows, got an empty file. Save it again.")
    width = len(rows[0][0])
    if width == 1 and all(len(row) == 1 for row, _ in rows):
        return _one_column(spec, [row[0] if row else "" for row in all_rows], expected)
    for row, line in rows:
        if len(row) != width:
            raise OSError(f"{len(row)} values on line {line}, {width} on the first line")
    first, *values = [row for row, _ in rows]
    if not spec.keys and not _is_header(first):
        return _without_header(spec, [first, *values], expected)
    if "" in first and not spec.keys and expected.column is None:
        raise OSError("a column without a name, such as the index that pandas writes (index=False leaves it out)")
    table = {name: np.array([row[i] for row in values], dtype=object) for i, name in enumerate(first)}
    return _select_columns(spec, table, expected, header=", ".join(first))


def read_parquet(spec: ArraySpec, expected: Expected) -> Rows:
    """Read columns of a parquet file."""
    try:
        table = pd.read_parquet(spec.path)
    except ValueError as error:  # pyarrow's errors are among them
        raise OSError(str(error)) from error
    named_index = [name for name in table.index.names if name is not None]
    if named_index:
        table = table.reset_index(level=named_index)
    return _select_columns(spec, {str(name): table[name] for name in table}, expected)


def read_text(spec: ArraySpec, expected: Expected) -> Rows:
    """Read the lines of a text file."""
    if spec.keys:
        raise ValueError(
            f"{spec.path.name} must be given without a key, got {'+'.join(spec.keys)!r}. Pass {spec.path.name}."
        )
    lines = _without_blank_end(read_utf8(spec.path).splitlines(), expected)
    return Rows(np.array(lines, dtype=object), first_value=lines[0] if lines else None)


def _one_column(spec: ArraySpec, cells: list[str], expected: Expected) -> Rows:
    """Rows of a CSV file of one column, in which a blank line is an empty value.

    Its first line is a header if a key is given, if it names the column, or if only the other lines are numbers. Else
    the number of rows decides.
    """
    for mark, name in ((";", "semicolons"), ("\t", "tabs")):
        counts = {cell.count(mark) for cell in cells if cell}
        if len(counts) == 1 and counts != {0}:
            raise ValueError(f"{spec.path.name} must be separated by commas, got {name}. Save it with commas.")
    first, *others = cells
    cells = _without_blank_end(cells, expected)
    named = first.casefold() in (expected.column, f"{expected.column}s", *_ABOUT_CLIPS)
    before_numbers = not is_number(first) and any(others) and all(is_number(cell) for cell in others if cell)
    is_value = first in expected.ids or len(cells) == expected.num_rows
    if spec.keys or named or before_numbers or not (is_number(first) or is_value):
        table = {first: np.array(_without_blank_end(others, expected), dtype=object)}
        return _select_columns(spec, table, expected, header=first)
    return _without_header(spec, [[cell] for cell in cells], expected)


def _without_header(spec: ArraySpec, rows: list[list[str]], expected: Expected) -> Rows:
    values = np.array(rows, dtype=object)
    if expected.column is None:
        columns = {i + 1: _numbers(column, spec.path.name) for i, column in enumerate(values.T)}
        numbers = {i: column for i, column in columns.items() if column is not None}
        if len(numbers) < len(columns):
            wrong = next(i for i in columns if i not in numbers)
            raise ValueError(
                f"{spec.path.name} must hold numbers, got text in column {wrong}. Leave out that column, or write a "
                "header as its first line."
            )
        values = np.stack(list(numbers.values()), axis=1)
    return Rows(values[:, 0] if values.shape[1] == 1 else values, first_value=", ".join(rows[0]))


def _without_blank_end(cells: list[str], expected: Expected) -> list[str]:
    """Values without blank lines at the end that are more than expected."""
    num_rows = len(cells)
    while expected.num_rows is not None and num_rows > expected.num_rows and not cells[num_rows - 1]:
        num_rows -= 1
    return cells[:num_rows]


def _select_columns(spec: ArraySpec, table: Mapping[str, Any], expected: Expected, header: str | None = None) -> Rows:
    """Columns of a table side by side, and its column id as ids."""
    id_column = next((name for name in table if name.casefold() == "id"), None)
    names, left_out = _column_names(spec, table, expected)
    if expected.column is None:
        values = _features(spec, {name: table[name] for name in names}, chosen=bool(spec.keys))
    else:
        columns = [_plain_column(table[name]) for name in names]
        values = columns[0] if len(columns) == 1 else np.stack(columns, axis=1)
    ids = None
    if id_column is not None and names != [id_column]:
        ids = tuple(map(_id_text, _plain_column(table[id_column]).tolist()))
    column = names[0] if len(names) == 1 else None
    return Rows(values, ids, header=header, column=column, left_out=tuple(left_out))


def _id_text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _column_names(spec: ArraySpec, table: Mapping[str, Any], expected: Expected) -> tuple[list[str], list[str]]:
    """Names of the requested columns, and of those that are left out because they are no features."""
    if (joined := "+".join(spec.keys)) in table:
        return [joined], []
    names: list[str] = []
    for key in spec.keys:
        matched = [key] if key in table else matching(key, table) if is_pattern(key) else []
        if not matched:
            raise unknown_key(spec, key, table)
        names += [name for name in matched if name not in names]
    if names:
        return names, []
    if expected.column is not None:
        return [expected.column] if expected.column in table else list(table), []
    left_out = [name for name in table if name.casefold() in _ABOUT_CLIPS or name.endswith("_path")]
    if len(left_out) == len(table):
        raise ValueError(
            f"{spec.path.name} must have a column of features, got {', '.join(table)}. Pass {spec.path.name}:COLUMN."
        )
    return [name for name in table if name not in left_out], left_out


def _features(spec: ArraySpec, columns: Mapping[str, Any], *, chosen: bool) -> np.ndarray:
    """Columns of numbers or vectors side by side, `(rows, dim)` or `(rows, steps, dim)`.

    A single column of numbers is `(rows,)` unless it was chosen by name.
    """
    found = {name: _numbers(column, f"{spec.path.name}:{name}") for name, column in columns.items()}
    blocks = [block for block in found.values() if block is not None]
    if len(blocks) < len(found):
        wrong = [name for name, block in found.items() if block is None]
        right = [name for name, block in found.items() if block is not None]
        text = ", ".join(wrong) if len(wrong) <= 5 else some(wrong)
        raise ValueError(
            f"{spec.path.name} must hold numbers in every column of features, got text in {text}. "
            f"{_advice(spec, right, wrong)}"
        )
    if len(blocks) == 1:
        return blocks[0][:, None] if chosen and blocks[0].ndim == 1 else blocks[0]
    if any(block.ndim > 2 for block in blocks):
        raise ValueError(f"{spec.path.name} must be given with one column of sequences, got several. Name one.")
    return np.concatenate([block[:, None] if block.ndim == 1 else block for block in blocks], axis=1)


def _advice(spec: ArraySpec, right: Sequence[str], wrong: Sequence[str]) -> str:
    """Advice how to name the columns of numbers."""
    if not right:
        return "Name a column of numbers, or save the vectors as .npy."
    prefix = right[0]
    while not all(name.startswith(prefix) for name in right):
        prefix = prefix[:-1]
    if len(right) > 1 and prefix and not any(name.startswith(prefix) for name in wrong):
        return f"Pass '{spec.path.name}:{prefix}*' for the columns of features."
    return f"Name the columns of features, such as {spec.path.name}:{'+'.join(right[:2])} or a pattern such as 'f*'."


def _numbers(column: Any, place: str) -> np.ndarray | None:
    """Column of numbers or of one vector per row, `(rows, ...)`; None if it is text. Empty values are NaN."""
    values = _plain_column(column)
    if values.dtype.kind in "biuf":
        return values
    with suppress(ValueError, TypeError):
        return values.astype(np.float64)
    filled = [value for value in values.tolist() if not _is_empty(value)]
    if filled and all(isinstance(value, list | tuple | np.ndarray) for value in filled):
        return _vectors(values.tolist(), place)
    if filled and all(isinstance(value, str) and value[:1] == "[" and value[-1:] == "]" for value in filled):
        try:
            return _vectors([None if _is_empty(value) else json.loads(value) for value in values.tolist()], place)
        except json.JSONDecodeError:
            return None
    try:
        return np.array([np.nan if _is_empty(value) else float(value) for value in values.tolist()])
    except (ValueError, TypeError):
        return None


def _vectors(values: Sequence[Any], place: str) -> np.ndarray:
    """One vector or sequence per row, as `(rows, dim)` or `(rows, steps, dim)`; rows without any are NaN."""
    names = [f"row {row}" for row in range(len(values))]
    return stack_clips([None if _is_empty(value) else _nested(value) for value in values], names, place)


def _nested(value: Any) -> np.ndarray:
    """Array of a vector, or of a list of vectors."""
    array = np.asarray(value) if not isinstance(value, np.ndarray) else value
    return np.stack([np.asarray(each) for each in array]) if array.dtype == object and len(array) else array


def _is_empty(value: Any) -> bool:
    if isinstance(value, list | tuple | np.ndarray):
        return False
    return value is None or value is pd.NA or (isinstance(value, str) and not value) or value != value


def _plain_column(column: Any) -> np.ndarray:
    """Column as an array; pandas' own numbers that may be absent become floats."""
    if not isinstance(column, pd.Series):
        return np.asarray(column)
    if column.isna().any() and pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return column.to_numpy()


def is_number(text: str) -> bool:
    """Whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_header(row: list[str]) -> bool:
    """Whether a first row is a header: not all numbers, or 0, 1, 2, ..., as pandas names columns."""
    # pandas leaves the first name empty if it writes the index
    names = row[1:] if row[0] == "" else row
    numbered = len(names) > 1 and names == [str(i) for i in range(len(names))]
    return numbered or not all(is_number(value) for value in row if value)
