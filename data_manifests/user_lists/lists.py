"""The user's copy of official lists: the folder that holds it, its lines, and the rows that are left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from amr.common.csv_rows import read_utf8
from amr.data_manifests.coverage import named
from amr.data_manifests.schema import counted


def list_folder(root: str | os.PathLike[str], names: Sequence[str], source: str) -> Path:
    """Return the folder with the lists of a dataset: the root, or a folder in it.

    Args:
        root: Folder of the media.
        names: Names of the lists that the dataset cannot be read without.
        source: Where the lists come from, to follow "Get them from".

    Raises:
        FileNotFoundError: No folder holds all of the lists; the message names those that are missing.
    """
    with os.scandir(root) as entries:
        inside = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    folders = [Path(root), *(Path(root, name) for name in inside)]
    lacking = {folder: [name for name in names if not (folder / name).is_file()] for folder in folders}
    best = min(folders, key=lambda folder: len(lacking[folder]))
    if missing := lacking[best]:
        lacks = "with none of them" if len(missing) == len(names) else f"without {', '.join(missing)}"
        raise FileNotFoundError(
            f"--root must hold the official lists ({', '.join(names)}), or a folder with them, got {str(best)!r} "
            f"{lacks}. Get them from {source}, or pass --root with another folder."
        )
    return best


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Number (from 1) and text of every line of a list that is not blank, without blanks around it.

    Raises:
        ValueError: The file is not UTF-8.
    """
    return [(number, line.strip()) for number, line in enumerate(read_utf8(path).splitlines(), 1) if line.strip()]


def leave_out(rows: pd.DataFrame, wrong: pd.Series, why: str, notes: list[str]) -> pd.DataFrame:
    """Return the rows that are not wrong, and append a note for each list with wrong rows.

    Args:
        rows: Table with columns list (name of the file) and id.
        wrong: Mask of the rows, bool `(rows,)`.
        why: Reason, as a clause without a full stop.
        notes: Messages for the user, extended.
    """
    for name, some in rows[wrong].groupby("list", sort=False):
        left_out = counted(len(some), "row", "rows")
        notes.append(f"{name}: {left_out} left out, {why}: {named(list(dict.fromkeys(some['id'])))}.")
    return rows[~wrong]


def each_once(rows: pd.DataFrame, key: Sequence[str], notes: list[str]) -> pd.DataFrame:
    """Leave out repeated rows: within a list, and those of a later list that an earlier one has, too.

    Args:
        rows: Table with columns list and id. Lists come in order of precedence, test first, so that no test clip is
            trained on.
        key: Columns that tell rows apart.
        notes: Messages for the user, extended.
    """
    rows = leave_out(rows, rows.duplicated(["list", *key]), "repeated in this list", notes)
    return leave_out(rows, rows.duplicated(list(key)), "which a list with another split has, too", notes)


def refuse_empty(rows: pd.DataFrame, names: Sequence[str], what: str, notes: Sequence[str]) -> None:
    """Refuse lists of which no row is left.

    Args:
        rows: Table with the column list.
        names: Names of the lists that must have rows.
        what: What each of them must list.
        notes: Messages on the rows that were left out; the last one on the list is given as the reason.

    Raises:
        ValueError: A list has no rows left.
    """
    for name in names:
        if not (rows["list"] == name).any():
            reason = next(
                (note.partition(": ")[2] for note in reversed(notes) if note.startswith(f"{name}: ")), "none."
            )
            raise ValueError(f"{name} must list {what}, got {reason} Take the official list.")


def notes_on_counts(rows: pd.DataFrame, official: Mapping[str, int]) -> list[str]:
    """Note on lists with other numbers of clips than the official ones; empty if they are the same.

    Args:
        rows: Table with the column list.
        official: Name of each list -> official number of its clips.
    """
    found = Counter(rows["list"])
    other = [f"{name} {found[name]:,} of {number:,}" for name, number in official.items() if found[name] != number]
    if not other:
        return []
    return [f"the lists differ from the official ones, so results do not compare: {', '.join(other)} clips."]
