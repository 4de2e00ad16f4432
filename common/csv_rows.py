"""CSV files as rows of text: UTF-8, any line ends, fields of any length, no blanks around unquoted values."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

# The csv module refuses fields beyond 131,072 characters, which vectors and transcripts as text exceed.
_MAX_FIELD = 2**31 - 1
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
