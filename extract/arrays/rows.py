"""Rows of a file: how they are requested, what the caller expects of them, and what the file says about them."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from amr.extract.arrays.stack import ClipArrays

SINGLE = (".npy", ".txt")  # of files that hold one array each


@dataclass(frozen=True)
class ArraySpec:
    """The arrays of a file or folder to read, and the rows of them.

    Attributes:
        path: Path of the file, or of a folder with one file per clip.
        keys: Arrays or variables, whose rows are concatenated, or columns, which are put side by side; empty for the
            only one. A pattern such as `f*` selects several columns, or the arrays of several clips.
        num_rows: Number of first rows to read, None for all.
    """

    path: Path
    keys: tuple[str, ...] = ()
    num_rows: int | None = None

    def __str__(self) -> str:
        keys = f":{'+'.join(self.keys)}" if self.keys else ""
        return f"{self.path.name}{keys}" + (f":{self.num_rows}" if self.num_rows is not None else "")

    def other(self, what: str) -> str:
        """Advice to name what is not wrong: another array of this file, if it can hold several, or another file.

        >>> ArraySpec(Path("a.npz")).other("of numbers"), ArraySpec(Path("a.npy")).other("of numbers")
        ('Name a key or column of numbers, FILE:KEY.', 'Name a file of numbers.')
        """
        if self.path.suffix.lower() in SINGLE:
            return f"Name a file {what}."
        return f"Name a key or column {what}, FILE:KEY."


def parse_array_spec(text: str, option: str) -> ArraySpec:
    """Parse `FILE[:KEY[+KEY...]][:N]`. A colon belongs to the file's name if that file exists.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: N is 0.
    """
    if Path(text).exists():
        return ArraySpec(_named(text))
    for num_colons in (1, 2):
        file, *rest = text.rsplit(":", num_colons)
        if len(rest) == num_colons and Path(file).exists():
            num_rows = int(rest[-1]) if re.fullmatch(r"[0-9]+", rest[-1]) else None
            if num_colons == 2 and num_rows is None:
                break
            if num_rows == 0:
                raise ValueError(f"{option} must read at least one row, got {text!r}. Pass {file} for all rows.")
            if num_colons == 1 and num_rows is None:
                return ArraySpec(_named(file), tuple(rest[0].split("+")))
            return ArraySpec(_named(file), tuple(rest[0].split("+")) if num_colons == 2 else (), num_rows)
    raise FileNotFoundError(
        f"{option} must name an existing file, got {text!r}. Pass FILE, FILE:KEY or FILE:N (its first N rows)."
    )


def _named(text: str) -> Path:
    """Path with a name for messages, which the current folder lacks."""
    path = Path(text)
    return path if path.name else path.absolute()


@dataclass(frozen=True)
class Expected:
    """The caller's knowledge of the rows, which decides what a file by itself leaves open.

    Attributes:
        column: Column of a table that is read unless keys are given; None for embeddings, which are every column of
            numbers.
        num_rows: Number of rows, None if unknown. It tells a header line from a value.
        ids: Ids of clips. They tell arrays that are named by clip from arrays of all clips.
        dtype: Type that suffices for numbers that a file holds as text.
    """

    column: str | None = None
    num_rows: int | None = None
    ids: Collection[str] = ()
    dtype: str = "float64"


@dataclass(frozen=True)
class Rows:
    """Rows of a file.

    Attributes:
        values: Numbers or text as stored, `(rows, ...)`; text files give text. NaN pads clips with fewer steps and
            fills clips without any.
        ids: Ids that the file gives its rows, by a column id or by the names of arrays or files; None if it gives none.
        header: First line of a text file, if it was taken for the names of columns.
        first_value: First line of a text file, if it was taken for a value.
        column: Name of the only column of features, if a table has one.
        left_out: Names of the columns of a table that are no features.
    """

    values: np.ndarray | ClipArrays
    ids: tuple[str, ...] | None = None
    header: str | None = None
    first_value: str | None = None
    column: str | None = None
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)
