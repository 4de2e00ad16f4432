"""A manifest: clips with labels, splits, groups and the files they are in; read from CSV and written to it."""

from __future__ import annotations

import csv as csv_format
import difflib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from amr.common.files import replacing
from amr.data_manifests.schema import REQUIRED, SPLITS, Origin, check_table, path_columns, split_columns

__all__ = ["SPLITS", "Manifest", "read_manifest", "write_manifest"]


@dataclass(frozen=True, eq=False)
class Manifest:
    """The clips of a dataset, in a fixed order.

    Args:
        dataset: the dataset's name, or the stem of the CSV.
        root: the folder that paths are relative to; absolute.
        table: (clips, columns), every value str, "" for absent. Always has `id`, `label`, `split`, `group`, and
            `path` (one file for all modalities) or `<modality>_path` columns. `split_<policy>` columns are other
            splits; `start_seconds` and `end_seconds` cut the clip out of its file; any other column is kept.

    Raises:
        ValueError: the table breaks the schema; the message names the row.
    """

    dataset: str
    root: Path
    table: pd.DataFrame

    def __post_init__(self) -> None:
        if not self.root.is_absolute():
            raise ValueError(f"root must be an absolute path, got {str(self.root)!r}. Pass Path(root).absolute().")
        check_table(self.table, Origin(self.dataset))

    def __len__(self) -> int:
        return len(self.table)

    @property
    def ids(self) -> list[str]:
        """The clips' ids, in order."""
        return list(self.table["id"])

    @property
    def modalities(self) -> list[str]:
        """The modalities with a path column of their own; empty where one `path` serves them all."""
        return [name.removesuffix("_path") for name in path_columns(list(self.table.columns)) if name != "path"]

    @property
    def split_policies(self) -> list[str]:
        """The names of the splits beside `split`: `<policy>` for each column `split_<policy>`."""
        return [name.removeprefix("split_") for name in split_columns(list(self.table.columns)) if name != "split"]

    def value(self, row: int, column: str) -> str:
        """What a column says of a clip; "" where it says nothing or there is no such column."""
        return str(self.table[column].iat[row]) if column in self.table.columns else ""

    def path(self, row: int, modality: str) -> Path | None:
        """The file that holds a modality of a clip, or None where the list has none.

        Args:
            row: the clip's row, from 0.
            modality: `<modality>_path` is read where there is such a column, else `path`.
        """
        value = self.value(row, self._path_column(modality))
        return self.root / value if value else None

    def paths(self, modality: str) -> list[Path | None]:
        """`path` of every clip."""
        column = self._path_column(modality)
        values = self.table[column] if column in self.table.columns else [""] * len(self)
        return [self.root / str(value) if value else None for value in values]

    def _path_column(self, modality: str) -> str:
        own = f"{modality}_path"
        return own if own in self.table.columns else "path"

    def interval(self, row: int) -> tuple[float | None, float | None]:
        """Where a clip starts and ends in its file, in seconds; None for the file's own start or end."""
        start, end = self.value(row, "start_seconds"), self.value(row, "end_seconds")
        return (float(start) if start else None, float(end) if end else None)

    def to_csv(self) -> str:
        r"""The canonical CSV: comma, \n, quotes where they are needed, the table's order of rows and columns."""
        rows = [list(self.table.columns), *self.table.itertuples(index=False, name=None)]
        return "".join(",".join(_quoted(value) for value in row) + "\n" for row in rows)

    def sha256(self) -> str:
        """The SHA-256 of the canonical CSV, UTF-8, in hexadecimal."""
        return hashlib.sha256(self.to_csv().encode()).hexdigest()


def read_manifest(
    csv: Path, *, root: Path | None = None, label_column: str = "label", allow_unlabelled: bool = False
) -> Manifest:
    """Read a user's CSV of clips.

    Args:
        csv: UTF-8, with a header, a row a clip. Needs `path` or `<modality>_path` columns and a label. `id` defaults
            to the stem of the path, `split` and `group` to "". Values are read as text: `NA`, `1e5`, `007` stay.
        root: the folder that paths are relative to; the CSV's own folder by default.
        label_column: the column that is copied to `label`. A column `label` of another meaning is kept as
            `original_label`.
        allow_unlabelled: keep clips without a label, with label "".

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file breaks the schema; the message names the line and the id.
    """
    csv = Path(csv)
    header, rows, lines = _read_rows(csv)
    table = pd.DataFrame(rows, columns=header, dtype=str)
    origin = Origin(csv.name, lines)
    folder = Path(os.path.abspath(csv.parent if root is None else root))
    table = _with_label(table, label_column, allow_unlabelled, origin)
    for column in path_columns(header):
        table[column] = [_inside(folder, value) for value in table[column]]
    if "id" not in table.columns:
        table["id"] = _stems(table)
    for column in ("split", "group"):
        if column not in table.columns:
            table[column] = ""
    table = table[[*REQUIRED, *(name for name in table.columns if name not in REQUIRED)]]
    check_table(table, origin)
    if not allow_unlabelled:
        _check_labels(table, label_column, origin)
    return Manifest(csv.stem, folder, table)


def write_manifest(manifest: Manifest, csv: Path) -> None:
    """Write the canonical CSV of a manifest; whole or not at all.

    Paths in it are relative to `manifest.root`: where the CSV lies elsewhere, read it back with that root.
    """
    csv = Path(csv)
    csv.parent.mkdir(parents=True, exist_ok=True)
    with replacing(csv) as partial:
        partial.write_bytes(manifest.to_csv().encode())


def _quoted(value: str) -> str:
    """A CSV value. Written here, because both csv and pandas leave a lone carriage return bare."""
    return '"' + value.replace('"', '""') + '"' if any(mark in value for mark in ',"\r\n') else value


def _read_rows(csv: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """The header, the rows, and the line on which each row starts, of a CSV file."""
    if not csv.is_file():
        raise FileNotFoundError(f"manifest must be an existing CSV file, got {str(csv)!r}. Check the path.")
    rows: list[list[str]] = []
    lines: list[int] = []
    line = 1
    try:
        with csv.open(encoding="utf-8-sig", newline="") as file:
            reader = csv_format.reader(file, strict=True)
            for row in reader:
                if row:
                    rows.append(row)
                    lines.append(line)
                line = reader.line_num + 1
    except UnicodeDecodeError as error:
        raise ValueError(f"{csv.name} must be UTF-8 text, got {error}. Save it as UTF-8.") from error
    except csv_format.Error as error:
        raise ValueError(
            f"{csv.name} must be a CSV file, got {error} on the row from line {line}. Close its quotes."
        ) from error
    if not rows:
        raise ValueError(f"{csv.name} must begin with a header, got an empty file. Write path,label on its first line.")
    header = rows.pop(0)
    lines.pop(0)
    _check_header(header, csv.name)
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(header):
            raise ValueError(
                f"line {line} of {csv.name} must have {len(header)} values as the header has, got {len(row)}. "
                "Put values with a comma in quotes."
            )
    return header, rows, lines


def _check_header(header: list[str], name: str) -> None:
    """Refuse a header with nameless or repeated columns."""
    if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
        raise ValueError(f"{name} must be separated by commas, got the header {header[0]!r}. Save it with commas.")
    if "" in header:
        raise ValueError(
            f"{name} must name every column, got no name for column {header.index('') + 1}. "
            "Name it, or leave it out (pandas: to_csv(index=False))."
        )
    repeated = next((column for column in header if header.count(column) > 1), None)
    if repeated is not None:
        raise ValueError(f"{name} must name every column once, got {repeated!r} more than once. Rename one.")


def _with_label(table: pd.DataFrame, label_column: str, allow_unlabelled: bool, origin: Origin) -> pd.DataFrame:
    """The table with its column `label`."""
    if label_column in table.columns:
        if label_column != "label" and "label" in table.columns:
            kept = "original_label"
            while kept in table.columns:
                kept = f"original_{kept}"
            table = table.rename(columns={"label": kept})
        # Blanks alone are no label.
        return table.assign(label=table[label_column].where(table[label_column].str.strip() != "", ""))
    if allow_unlabelled and label_column == "label":
        return table.assign(label="")
    close = difflib.get_close_matches(label_column, list(table.columns), n=1)
    hint = f"Did you mean {close[0]}?" if close else "Pass --label-column with the one that holds the label."
    raise ValueError(
        f"label column must be a column of {origin.name} ({', '.join(table.columns)}), got {label_column!r}. {hint}"
    )


def _check_labels(table: pd.DataFrame, label_column: str, origin: Origin) -> None:
    """Refuse clips without a label."""
    rows = [row for row, label in enumerate(table["label"]) if not label]
    if rows:
        more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        raise ValueError(
            f"{label_column} must not be empty, got '' on {origin.row(rows[0], str(table['id'].iat[rows[0]]))}{more}. "
            "Pass --allow-unlabelled to keep such clips."
        )


def _inside(root: Path, value: str) -> str:
    """A path relative to the root, posix, without `.` and `..`; as it was where it leaves the root."""
    if not value:
        return ""
    relative = os.path.relpath(os.path.join(root, value), root)
    leaves = relative == os.pardir or relative.startswith(os.pardir + os.sep)
    return value if leaves else Path(relative).as_posix()


def _stems(table: pd.DataFrame) -> list[str]:
    """For each clip the stem of its first path; "" where it has none."""
    columns = path_columns(list(table.columns))
    if not columns:
        return [""] * len(table)
    paths = (next((value for value in row if value), "") for row in table[columns].itertuples(index=False))
    return [PurePosixPath(path).stem for path in paths]
