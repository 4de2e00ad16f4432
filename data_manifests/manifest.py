"""Manifests: clips with labels, splits, groups and files, read from CSV and written to CSV."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
import pandas as pd

from amr.common.csv_rows import check_csv, check_header, read_csv_rows
from amr.common.files import replacing
from amr.common.registry import closest
from amr.data_manifests.schema import (
    REQUIRED,
    SPLITS,
    TEXT,
    Origin,
    check_table,
    divided_groups,
    may_hold,
    path_columns,
    strip_values,
)

__all__ = ["SPLITS", "Manifest", "read_manifest", "write_manifest"]

AnyPath = TypeVar("AnyPath", str, Path)


@dataclass(frozen=True, eq=False)
class Manifest:
    """The clips of a dataset, in a fixed order.

    Args:
        dataset: Name of the dataset, or stem of the CSV.
        root: Absolute folder that relative paths start from.
        table: Table `(clips, columns)`, every value str, "" if absent. It always has `id`, `label`, `split`, `group`,
            and `path` (one file for all modalities), `<modality>_path` columns or `text` (the text of each clip).
            `split_<policy>` columns are other splits; `start_seconds` and `end_seconds` (at most 10,000,000) cut the
            clip out of its file; any other column is retained.
        notes: Messages for the user about the list.

    Raises:
        ValueError: The table breaks the schema; the message names the row.
    """

    dataset: str
    root: Path
    table: pd.DataFrame
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.root.is_absolute():
            raise ValueError(f"root must be an absolute path, got {str(self.root)!r}. Pass Path(root).absolute().")
        check_table(self.table, Origin(self.dataset))

    def __len__(self) -> int:
        return len(self.table)

    @property
    def ids(self) -> list[str]:
        """Ids of the clips, in order."""
        return self.table["id"].tolist()

    @property
    def modalities(self) -> list[str]:
        """Modalities with their own path column; empty if one `path` serves all."""
        return [name.removesuffix("_path") for name in path_columns(list(self.table.columns)) if name != "path"]

    def lists(self, modality: str) -> bool:
        """Whether the list has a column of a modality's own, or files in `path` that may hold it."""
        own = modality in self.modalities or (modality == TEXT and TEXT in self.table.columns)
        return own or any(self._files(modality))

    def text(self, row: int) -> str:
        """Text of a clip as the list itself has it; "" if it has none, or only blanks."""
        value = self.value(row, TEXT)
        return value if value.strip() else ""

    def value(self, row: int, column: str) -> str:
        """Value of a column for a clip; "" if it is empty or the column does not exist."""
        values = self._values(column)
        return values[row] if values else ""

    def path(self, row: int, modality: str) -> Path | None:
        """File that holds a modality of a clip, or None if the list has none.

        Args:
            row: Row of the clip, from 0.
            modality: Modality, read from `<modality>_path` if that column exists, else from `path`. A text file in
                `path` holds text alone, any other file everything else. A clip with a `text` needs no file of it.
        """
        value = self._file(row, modality)
        return self.root / value if value else None

    def path_text(self, row: int, modality: str) -> str:
        """The text of `path`, which takes long to make of many; "" if the list has none."""
        value = self._file(row, modality)
        if value and os.sep == "/" and _NORMAL.fullmatch(value):
            return os.path.join(self._root, value)
        return str(self.root / value) if value else ""

    def paths(self, modality: str) -> list[Path | None]:
        """File of a modality of every clip, as `path` gives it."""
        return [self.path(row, modality) for row in range(len(self))]

    def existing(self, modalities: Iterable[str]) -> dict[str, np.ndarray]:
        """Modality -> mask of the clips whose file or text exists, `(clips,)`. Each folder is listed once."""
        files: dict[str, list[str | None]] = {}
        for modality in modalities:
            files[modality] = [os.path.join(self._root, value) if value else None for value in self._files(modality)]
        found = existing_files(chain.from_iterable(files.values()))
        exist = {m: np.array([path in found for path in of_modality], bool) for m, of_modality in files.items()}
        if TEXT in exist:
            exist[TEXT] |= np.array([bool(self.text(row)) for row in range(len(self))], bool)
        return exist

    def _file(self, row: int, modality: str) -> str:
        if modality == TEXT and self.text(row):
            return ""
        own = self._values(f"{modality}_path")
        if own:
            return own[row]
        value = self.value(row, "path")
        return value if may_hold(value, modality) else ""

    def _files(self, modality: str) -> list[str]:
        """File of a modality of every clip, as listed; "" if there is none."""
        return [self._file(row, modality) for row in range(len(self))]

    def _values(self, column: str) -> list[str]:
        """Values of a column as a list, which is quicker to look into than a table; empty without such a column."""
        if column not in self._lists:
            self._lists[column] = list(map(str, self.table[column].tolist())) if column in self.table.columns else []
        return self._lists[column]

    @cached_property
    def _root(self) -> str:
        return str(self.root)

    @cached_property
    def _lists(self) -> dict[str, list[str]]:
        return {}

    def interval(self, row: int) -> tuple[float | None, float | None]:
        """Start and end of a clip in its file, in seconds; None for the file's own start or end."""
        start, end = self.value(row, "start_seconds"), self.value(row, "end_seconds")
        return (float(start) if start else None, float(end) if end else None)

    def to_csv(self) -> str:
        r"""Canonical CSV: comma, \n, quotes only if needed, the table's order of rows and columns."""
        rows = [tuple(self.table.columns), *zip(*(self.table[name].tolist() for name in self.table), strict=True)]
        return "".join(",".join(_quoted(value) for value in row) + "\n" for row in rows)

    def sha256(self) -> str:
        """SHA-256 of the canonical CSV in UTF-8, in hexadecimal."""
        return hashlib.sha256(self.to_csv().encode()).hexdigest()


def read_manifest(
    csv: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    label_column: str = "label",
    allow_unlabelled: bool = False,
    label_option: str = "--label-column",
) -> Manifest:
    """Read a user's CSV of clips.

    Args:
        csv: UTF-8 file with a header and one row per clip. It needs `path` or `<modality>_path` columns or `text`, and
            a label. `id` defaults to the stem of the path, or to 0, 1, 2, ... without a column of paths, `split` and
            `group` to "". Values are read as text: `NA`, `1e5` and `007` stay as they are.
        root: Folder that relative paths start from; the CSV's own folder by default.
        label_column: Column that is copied to `label`. A column `label` of another meaning becomes `original_label`.
        allow_unlabelled: Whether to include clips without a label, with label "".
        label_option: Option that names the column, for errors.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file breaks the schema; the message names the line and the id.
    """
    csv = Path(csv)
    header, rows, lines = _read_rows(csv)
    table = pd.DataFrame(rows, columns=header, dtype=str)
    origin = Origin(csv.name, lines, header)
    folder = Path(os.path.abspath(csv.parent if root is None else root))
    table = _with_label(table, label_column, allow_unlabelled, origin, label_option)
    table, notes = strip_values(table, ("label",))
    for column in path_columns(header):
        values = table[column].tolist()
        table[column] = [_normalized(folder, value, column, origin, row) for row, value in enumerate(values)]
    if "id" not in table.columns:
        table["id"] = _stems(table)
    for column in ("split", "group"):
        if column not in table.columns:
            table[column] = ""
    table = table[[*REQUIRED, *(name for name in table.columns if name not in REQUIRED)]]
    check_table(table, origin)
    if not allow_unlabelled:
        _check_labels(table, label_column, origin)
    return Manifest(csv.stem, folder, table, (*notes, *divided_groups(table)))


def write_manifest(manifest: Manifest, csv: str | os.PathLike[str]) -> None:
    """Write the canonical CSV of a manifest, completely or not at all.

    Its paths are relative to `manifest.root`: if the CSV is in another folder, read it with that root.

    Raises:
        ValueError: The file exists and has other content, which may be somebody's work.
    """
    csv = Path(csv)
    content = manifest.to_csv().encode()
    if csv.exists():
        if csv.read_bytes() != content:
            raise ValueError(f"--out must be new or the same manifest, got {str(csv)!r}. Choose another name.")
        return
    csv.parent.mkdir(parents=True, exist_ok=True)
    with replacing(csv) as partial:
        partial.write_bytes(content)


def existing_files(paths: Iterable[AnyPath | None]) -> set[AnyPath]:
    """Those of the paths that exist. Each folder is listed once, which is fast on network drives, too."""
    by_folder: dict[str, list[AnyPath]] = defaultdict(list)
    for path in {path for path in paths if path is not None}:
        by_folder[os.path.dirname(path)].append(path)
    num_siblings = Counter(map(os.path.dirname, by_folder))
    entries = cache(_entries)
    found: set[AnyPath] = set()
    for folder, members in by_folder.items():
        parent, name = os.path.split(folder)
        if name and num_siblings[parent] > 1 and not _may_hold(entries(parent), name):  # a clip may have its own folder
            continue
        listed = entries(folder)
        found |= {path for path in members if _may_hold(listed, os.path.basename(path)) and _exists(listed, path)}
    return found


class _Entries(dict[str, "os.DirEntry[str]"]):
    """Name -> entry of a folder."""

    @cached_property
    def folded(self) -> set[str]:
        """Names without their case and the form of their accents, which some file systems ignore."""
        return set(map(_folded, self))


def _entries(folder: str) -> _Entries | None:
    """Entries of a folder, none if it does not exist; None if it may be entered but not listed."""
    try:
        with os.scandir(folder or os.curdir) as found:
            return _Entries((entry.name, entry) for entry in found)
    except (FileNotFoundError, NotADirectoryError):
        return _Entries()
    except OSError:
        return None


def _may_hold(listed: _Entries | None, name: str) -> bool:
    return listed is None or name in listed or _folded(name) in listed.folded


def _exists(listed: _Entries | None, path: str | Path) -> bool:
    """Whether a file exists, of whose name there is an entry: a link may lead nowhere, other letters may not count."""
    entry = None if listed is None else listed.get(os.path.basename(path))
    return (entry is not None and not entry.is_symlink()) or _may_exist(Path(path))


def _may_exist(path: Path) -> bool:
    """Whether a file exists, also where that cannot be seen: reading it then says why."""
    try:
        return path.exists()
    except OSError:
        return True


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


_QUOTED_MARK = re.compile(r'[,"\r\n]')


def _quoted(value: str) -> str:
    """Value as CSV text. Both csv and pandas would leave a single carriage return without quotes."""
    needs_quotes = _QUOTED_MARK.search(value) or value != value.strip(" \t")
    return '"' + value.replace('"', '""') + '"' if needs_quotes else value


def _read_rows(csv: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """Header, rows, and the line on which each row starts, of a CSV file."""
    check_csv(csv)
    found = [(row, line) for row, line in zip(*read_csv_rows(csv), strict=True) if row]
    rows, lines = [row for row, _ in found], [line for _, line in found]
    if not rows:
        raise ValueError(f"{csv.name} must begin with a header, got an empty file. Write path,label on its first line.")
    header = rows.pop(0)
    lines.pop(0)
    check_header(header, csv.name)
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(header):
            raise ValueError(
                f"line {line} of {csv.name} must have {len(header)} values like the header, got {len(row)}. "
                "Put values with a comma in quotes."
            )
    return header, rows, lines


def _with_label(
    table: pd.DataFrame, label_column: str, allow_unlabelled: bool, origin: Origin, label_option: str
) -> pd.DataFrame:
    """Table with the label column copied to `label`."""
    if label_column in table.columns:
        if label_column != "label" and "label" in table.columns:
            new_name = "original_label"
            while new_name in table.columns:
                new_name = f"original_{new_name}"
            table = table.rename(columns={"label": new_name})
        # A label of only whitespace counts as missing.
        return table.assign(label=table[label_column].where(table[label_column].str.strip() != "", ""))
    if allow_unlabelled and label_column == "label":
        return table.assign(label="")
    close = closest(label_column, table.columns)
    hint = f"Did you mean {close}?" if close else f"Pass {label_option} with the column of labels."
    raise ValueError(
        f"{label_option} must be a column of {origin.name} ({', '.join(table.columns)}), got {label_column!r}. {hint}"
    )


def _check_labels(table: pd.DataFrame, label_column: str, origin: Origin) -> None:
    """Raise ValueError for clips without a label."""
    rows = [row for row, label in enumerate(table["label"].tolist()) if not label]
    if rows:
        more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        raise ValueError(
            f"{label_column} must not be empty, got '' on {origin.row(rows[0], str(table['id'].iat[rows[0]]))}{more}. "
            "Pass --allow-unlabelled to keep such clips."
        )


_WINDOWS_ROOT = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_NORMAL = re.compile(r"(?:(?!\.\.?/)[^/\\:\0]+/)*(?!\.\.?\Z)[^/\\:\0]+")  # names between single slashes


def _normalized(root: Path, value: str, column: str, origin: Origin, row: int) -> str:
    r"""Path as the table holds it: posix, without `.` and `..`, relative if it is inside the root, else absolute.

    Backslashes separate folders, as on Windows, unless a file of that very name exists. A relative path that leaves the
    root is returned unchanged, to be refused.
    """
    if not value or _NORMAL.fullmatch(value):
        return value
    if "\\" in value and not os.path.lexists(os.path.join(root, value)):
        if _WINDOWS_ROOT.match(value):
            raise ValueError(
                f"{column} must be a path of this computer, got {value!r} on {origin.row(row)}. Write it relative to "
                "the CSV or to --root, with / between folders."
            )
        value = value.replace("\\", "/")
    relative = os.path.relpath(os.path.join(root, value), root)
    if relative != os.pardir and not relative.startswith(os.pardir + os.sep):
        return Path(relative).as_posix()
    return os.path.normpath(value) if os.path.isabs(value) else value


def _stems(table: pd.DataFrame) -> list[str]:
    """Stem of the first path of each clip, "" if it has none; numbers in a table without paths."""
    columns = path_columns(list(table.columns))
    if not columns:
        return list(map(str, range(len(table))))
    rows = zip(*(table[name].tolist() for name in columns), strict=True)
    paths = (next((value for value in row if value), "") for row in rows)
    return [PurePosixPath(path).stem for path in paths]
