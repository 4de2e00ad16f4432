"""Refuse a place for results before any work is done."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path


def check_writable(folder: Path, what: str, advice: str) -> None:
    """Refuse a folder that cannot be written to, before any work is done. Folders that are missing are not made.

    Args:
        folder: Folder for the results; it need not exist.
        what: Name of the option or argument that chose the folder, for the error.
        advice: What to type instead, for the error.

    Raises:
        ValueError: Files cannot be written there.
    """
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.exists(path))
    try:
        with tempfile.TemporaryFile(dir=nearest):
            return
    except OSError as error:
        problem = error.strerror
    raise ValueError(f"{what} must be a place that can be written to, got {str(folder)!r} ({problem}). {advice}")


def check_unlinked(folder: Path, what: str) -> None:
    """Refuse a folder of results that holds a symbolic link: what is written to it would land elsewhere.

    The folder itself may be a link, as on a machine whose results lie on another disk.

    Args:
        folder: Folder of a run, sweep or training; it need not exist.
        what: Name of the option or argument that chose the folder, for the error.

    Raises:
        ValueError: There is a link.
    """
    for parent, folders, files in os.walk(folder):
        for path in (Path(parent, name) for name in (*folders, *files)):
            if path.is_symlink():
                raise ValueError(
                    f"{what} must hold no links, got {str(path)!r}, which leads to {os.readlink(path)!r}. "
                    "Remove it, or choose another name."
                )


def check_ours(file: Path, marks: Sequence[bytes], what: str) -> None:
    """Refuse to replace a file that another program wrote.

    Args:
        file: File that will be written; it need not exist.
        marks: Bytes of which our files hold at least one.
        what: Name of the option that chose the file, for the error.

    Raises:
        ValueError: The file exists and holds none of the marks.
    """
    if not file.exists():
        return
    content = file.read_bytes() if file.is_file() else b""
    if not any(mark in content for mark in marks):
        raise ValueError(f"{what} must be new or written by the same command, got {str(file)!r}. Choose another name.")
