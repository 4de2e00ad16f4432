"""Columns of tables (.csv, .parquet), and text files with one value per line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from amr.common.csv_rows import check_unrepeated, read_csv_rows, read_utf8
from amr.common.files.memory import check_memory
from amr.extract.arrays.keys import is_pattern, matching, some, unknown_key
from amr.extract.arrays.rows import ArraySpec, Expected, Rows
from amr.extract.arrays.stack import ClipArrays, stack_clips

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

MAX_COLUMNS = 100_000
_BLOCK_VALUES = 2**20  # of a block that is read at once
_TEXT_BLOCK_VALUES = 2**16  # of a block of text, whose values take a hundred bytes each
# Columns that say something about a clip and are no features.
_ABOUT_CLIPS = ("id", "label", "split", "group", "path", "start_seconds", "end_seconds")


def read_csv(spec: ArraySpec, expected: Expected) -> Rows:
    """Read columns of a CSV file, with or without a header."""
    if expected.column is None and (numbers := _plain_numbers(spec, expected)) is not None:
        return numbers
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
    check_unrepeated(first, spec.path.name)
    table = {name: np.array([row[i] for row in values], dtype=object) for i, name in enumerate(first)}
    return _select_columns(spec, table, expected, header=", ".join(first))


def _plain_numbers(spec: ArraySpec, expected: Expected) -> Rows | None:
    """Columns of numbers of a CSV file with a header and without quotes, read in blocks: text takes much memory.

    None if the file is of another kind, or damaged.
    """
    num_bytes, num_lines = spec.path.stat().st_size, _count_lines(spec.path)
    values, ids, end = np.empty((0, 0)), [], 0
    try:
        with spec.path.open(encoding="utf-8-sig") as file, np.errstate(over="ignore"):
            rows = ([cell.strip(" \t") for cell in line.split(",")] for line in _plain_lines(file))
            first = next(rows, [])
            if len(first) < 2 or "" in first or not (spec.keys or _is_header(first)):
                return None
            place = {name: i for i, name in enumerate(first)}
            if len(place) < len(first):
                return None
            names, left_out = _column_names(spec, place, expected)
            columns = [place[name] for name in names]
            id_column = _id_column(place)
            values = np.empty((min(num_lines, num_bytes // len(first) + 1), len(columns)), expected.dtype)
            while block := list(islice(rows, max(1, _TEXT_BLOCK_VALUES // len(first)))):
                if any(len(row) != len(first) for row in block):
                    return None
                end += len(block)
                values[end - len(block) : end] = [[float(row[i] or "nan") for i in columns] for row in block]
                ids += [] if id_column is None else [row[place[id_column]] for row in block]
    except ValueError:  # text among the numbers, or another encoding
        return None
    values = values[:end, 0] if len(columns) == 1 and not spec.keys else values[:end]
    rows_have_ids = id_column is not None and names != [id_column]
    column = names[0] if len(names) == 1 else None
    ids_of_rows = tuple(ids) if rows_have_ids else None
    return Rows(values, ids_of_rows, header=", ".join(first), column=column, left_out=tuple(left_out))


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return 1 + sum(block.count(b"\n") + block.count(b"\r") for block in iter(lambda: file.read(2**20), b""))


def _plain_lines(file: Iterable[str]) -> Iterator[str]:
    """Lines that are not blank.

    Raises:
        ValueError: A line has a quote, within which a line may end, or after the first "_", as in 1_0, which is text.
    """
    for number, line in enumerate(file):
        if '"' in line or (number and "_" in line):
            raise ValueError
        if stripped := line.strip(" \t\n"):
            yield stripped


def read_parquet(spec: ArraySpec, expected: Expected) -> Rows:
    """Read columns of a parquet file."""
    from pyarrow.parquet import ParquetFile

    with ParquetFile(spec.path, buffer_size=2**20, pre_buffer=False) as file:
        stored = _stored_columns(file, spec.path.name)
        _check_unpacked(file, stored, spec.path.name)
        if expected.column is None and stored is not None:
            names, left_out = _column_names(spec, dict.fromkeys(stored), expected)
            if (values := _read_in_blocks(file, spec, names)) is not None:
                id_column = _id_column(dict.fromkeys(stored))
                ids = None
                if id_column is not None and names != [id_column]:
                    ids = tuple(map(_id_text, _plain_column(_pandas(file.read([id_column]), id_column)).tolist()))
                return Rows(values, ids, column=names[0] if len(names) == 1 else None, left_out=tuple(left_out))
        table = file.read(use_threads=False).to_pandas(use_threads=False)
    named_index = [name for name in table.index.names if name is not None]
    if named_index:
        table = table.reset_index(level=named_index)
    return _select_columns(spec, {str(name): table[name] for name in table}, expected)


def _stored_columns(file: ParquetFile, place: str) -> list[str] | None:
    """Columns as pandas shows them, the named ones of its index first; None if its index is not stored as columns."""
    schema = file.schema_arrow
    if len(schema.names) > MAX_COLUMNS:
        raise OSError(f"{len(schema.names):,} columns, more than {MAX_COLUMNS:,}: save one column of vectors, or .npy")
    check_unrepeated(schema.names, place)
    index = (schema.pandas_metadata or {}).get("index_columns", [])
    if any(not isinstance(each, str) and each.get("name") is not None for each in index):
        return None
    index = [each for each in index if isinstance(each, str)]
    named = [name for name in index if not name.startswith("__index_level_")]
    return [*named, *(name for name in schema.names if name not in index)]


def _check_unpacked(file: ParquetFile, columns: Sequence[str] | None, place: str) -> None:
    """Refuse a file whose values do not fit into memory, as its head counts them."""
    metadata, num_bytes = file.metadata, 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for i in range(group.num_columns):
            column = group.column(i)
            width = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4}.get(column.physical_type, 8)
            num_bytes += max(column.num_values * width, column.total_uncompressed_size)
    check_memory(num_bytes, place, "Save fewer rows or columns in one file.")


def _read_in_blocks(file: ParquetFile, spec: ArraySpec, names: Sequence[str]) -> np.ndarray | None:
    """Columns of features, read in parts; None if the parts differ in their shape, or hold text.

    Columns of numbers are read one after another: a reader of many holds a page and a dictionary of each.
    """
    num_rows = file.metadata.num_rows
    try:
        if len(names) > 1 and all(_is_numeric(file.schema_arrow.field(name).type) for name in names):
            return _read_by_column(file, spec, names)
        return _read_by_rows(file, spec, names, num_rows)
    except ValueError:
        return None


def _is_numeric(kind: Any) -> bool:
    """Whether a type of Arrow is one number per row."""
    from pyarrow import types

    return types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind)


def _read_by_column(file: ParquetFile, spec: ArraySpec, names: Sequence[str]) -> np.ndarray:
    values = np.empty((file.metadata.num_rows, len(names)), np.bool_)
    for i, name in enumerate(names):
        column = _features(spec, {name: _pandas(file.read([name], use_threads=False), name)}, chosen=False)
        values = values.astype(np.result_type(values, np.asarray(column)), copy=False)
        values[:, i] = column
    return values


def _read_by_rows(file: ParquetFile, spec: ArraySpec, names: Sequence[str], num_rows: int) -> np.ndarray | None:
    first = file.metadata.row_group(0) if num_rows else None
    row_values = (
        sum(first.column(i).num_values for i in range(first.num_columns)) // max(1, first.num_rows) if first else 1
    )
    values: np.ndarray | None = None
    end = 0
    for batch in file.iter_batches(max(1, _BLOCK_VALUES // max(1, row_values)), columns=list(names), use_threads=False):
        columns = {name: _pandas(batch.select([name]), name) for name in names}
        block = np.asarray(_features(spec, columns, chosen=bool(spec.keys)))
        if values is None:
            values = np.empty((num_rows, *block.shape[1:]), block.dtype)
        if block.shape[1:] != values.shape[1:]:
            return None
        values = values.astype(np.result_type(values, block), copy=False)
        end += len(block)
        values[end - len(block) : end] = block
    return values if end == num_rows else None


def _pandas(table: Any, column: str) -> pd.Series:
    series: pd.Series = table.replace_schema_metadata(None).to_pandas(use_threads=False)[column]
    return series


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
    id_column = _id_column(table)
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


def _id_column(table: Iterable[str]) -> str | None:
    return next((name for name in table if name.casefold() == "id"), None)


def _id_text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _column_names(spec: ArraySpec, table: Mapping[str, Any], expected: Expected) -> tuple[list[str], list[str]]:
    """Names of the requested columns, and of those that are left out because they are no features."""
    if (joined := "+".join(spec.keys)) in table:
        return [joined], []
    found: dict[str, None] = {}
    for key in spec.keys:
        matched = [key] if key in table else matching(key, table) if is_pattern(key) else []
        if not matched:
            raise unknown_key(spec, key, table)
        found |= dict.fromkeys(matched)
    if found:
        return list(found), []
    if expected.column is not None:
        return [expected.column] if expected.column in table else list(table), []
    left_out = {name: None for name in table if name.casefold() in _ABOUT_CLIPS or name.endswith("_path")}
    if len(left_out) == len(table):
        raise ValueError(
            f"{spec.path.name} must have a column of features, got {', '.join(table)}. Pass {spec.path.name}:COLUMN."
        )
    return [name for name in table if name not in left_out], list(left_out)


def _features(spec: ArraySpec, columns: Mapping[str, Any], *, chosen: bool) -> np.ndarray | ClipArrays:
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
        return np.asarray(blocks[0])[:, None] if chosen and blocks[0].ndim == 1 else blocks[0]
    if any(block.ndim > 2 for block in blocks):
        raise ValueError(f"{spec.path.name} must be given with one column of sequences, got several. Name one.")
    arrays = map(np.asarray, blocks)
    return np.concatenate([array[:, None] if array.ndim == 1 else array for array in arrays], axis=1)


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


def _numbers(column: Any, place: str) -> np.ndarray | ClipArrays | None:
    """Column of numbers or of one vector per row, `(rows, ...)`; None if it is text. Empty values are NaN."""
    values = _plain_column(column)
    if values.dtype.kind in "biuf":
        return values
    with suppress(ValueError, TypeError):
        if not any(isinstance(value, str) and "_" in value for value in values.tolist()):
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
        return np.array([np.nan if _is_empty(value) else _number(value) for value in values.tolist()])
    except (ValueError, TypeError):
        return None


def _vectors(values: Sequence[Any], place: str) -> np.ndarray | ClipArrays:
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
        _number(text)
    except ValueError:
        return False
    return True


def _number(value: Any) -> float:
    if isinstance(value, str) and "_" in value:  # which Python reads, and a table means as text
        raise ValueError
    return float(value)


def _is_header(row: list[str]) -> bool:
    """Whether a first row is a header: not all numbers, or 0, 1, 2, ..., as pandas names columns."""
    # pandas leaves the first name empty if it writes the index
    names = row[1:] if row[0] == "" else row
    numbered = len(names) > 1 and names == [str(i) for i in range(len(names))]
    return numbered or not all(is_number(value) for value in row if value)
