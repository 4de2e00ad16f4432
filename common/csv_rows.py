"""CSV files as rows of text: UTF-8, any line ends, fields of any length, no blanks around unquoted values."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from amr.common.files.memory import check_memory

# The csv module refuses fields beyond 131,072 characters, which vectors and transcripts as text exceed.
_MAX_FIELD = 2**31 - 1
MAX_COLUMNS = 10_000  # of tables of clips
_BYTES_PER_CELL, _BYTES_PER_CHARACTER = 64, 6  # of a table of Python's texts, while it is read
_BESIDE_SEPARATOR = re.compile(r"[ \t](?:[,\r\n]|\Z)|(?:\A|[,\r\n])[ \t]")
# A separator with the blanks around it and the quoted value after it, whose own blanks must stay. A quote inside an
# unquoted value is not special.
_SEPARATOR = re.compile(r'(?<![ \t])[ \t]*(\A|,|\r\n|\n|\r)[ \t]*("[^"]*(?:""[^"]*)*")?|(?<![ \t])[ \t]+\Z')


def read_csv_rows(path: Path) -> tuple[list[list[str]], list[int]]:
    """Rows of a CSV file, and the line on which each begins, counted from 1. A blank line is the row [].

    Raises:
        ValueError: The file is not UTF-8, or its quotes are wrong.
    """
    text = read_utf8(path)
    num_cells = text.count(",") + text.count("\n") + text.count("\r")
    check_memory(
        _BYTES_PER_CELL * num_cells + _BYTES_PER_CHARACTER * len(text), path.name, "Save numbers as .npy or .parquet."
    )
    if _BESIDE_SEPARATOR.search(text):
        text = _SEPARATOR.sub(lambda match: (match[1] or "") + (match[2] or ""), text)
    rows: list[list[str]] = []
    lines: list[int] = []
    line = 1
    old_limit = csv.field_size_limit(_MAX_FIELD)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        for row in reader:
            rows.append(row)
            lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"{path.name} must be a CSV file, got {error} in the row that starts on line {line}. Close its quotes."
        ) from error
    finally:
        csv.field_size_limit(old_limit)
    return rows, lines


def check_csv(csv: Path) -> None:
    """Raise FileNotFoundError if a manifest's file does not exist."""
    if not csv.is_file():
        raise FileNotFoundError(f"--manifest must be an existing CSV file, got {str(csv)!r}. Check the path.")


def check_header(header: Sequence[str], name: str) -> None:
    """Refuse a header with unnamed, repeated or too many columns.

    Args:
        header: Names of the columns.
        name: Name of the file.

    Raises:
        ValueError: The header is refused.
    """
    if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
        raise ValueError(f"{name} must be separated by commas, got the header {header[0]!r}. Save it with commas.")
    if len(header) > MAX_COLUMNS:
        raise ValueError(
            f"{name} must have at most {MAX_COLUMNS:,} columns, got {len(header):,}. Leave out those that describe no "
            "clip; embeddings belong in files of their own (amr import)."
        )
    if "" in header:
        raise ValueError(
            f"{name} must name every column, got no name for column {list(header).index('') + 1}. "
            "Name it, or leave it out (pandas: to_csv(index=False))."
        )
    check_unrepeated(header, name)


def check_unrepeated(header: Sequence[str], name: str) -> None:
    """Refuse a header with a repeated name, of whose columns one would be lost.

    Raises:
        ValueError: A name is repeated.
    """
    repeated = next((column for column, count in Counter(header).items() if count > 1), None)
    if repeated is not None:
        raise ValueError(f"{name} must name every column once, got {repeated!r} more than once. Rename one.")


def check_text(values: Sequence[str], column: str, place: Callable[[int], str]) -> None:
    """Refuse text that neither UTF-8 nor a cache can hold.

    Args:
        values: Values of a column.
        column: Name of the column.
        place: Function that describes a row, for the error.

    Raises:
        ValueError: A value has a NUL character or half a character.
    """
    if _is_text("".join(values)):
        return
    for row, value in enumerate(values):
        if not _is_text(value):
            wrong = "NUL" if "\0" in value else "half of a character"
            raise ValueError(
                f"{column} must be text without NUL and half characters, got {wrong} in {_cut(value)!r} on "
                f"{place(row)}. Correct that value."
            )


def _is_text(value: str) -> bool:
    if "\0" in value:
        return False
    try:
        value.encode("utf-8", "surrogateescape")  # names of files may hold bytes that are no text
    except UnicodeEncodeError:
        return False
    return True


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def read_utf8(path: Path) -> str:
    """Text of a file, with its line ends.

    Raises:
        ValueError: The file is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return file.read()
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ValueError(
            f"{path.name} must be UTF-8 text, got another encoding (byte 0x{byte:02x}). Save it as UTF-8."
        ) from error
