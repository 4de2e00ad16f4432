"""Temporary files for what is too large for memory, in a folder that is not memory itself."""

from __future__ import annotations

import os
import tempfile
from typing import BinaryIO, cast

DISK_FOLDER = "/var/tmp"  # noqa: S108 - unlike /tmp, which is memory on many systems; our files have no name there


def temporary_folder() -> str:
    """Folder for large temporary files: the first of TMPDIR and /var/tmp that can be written, else that of Python."""
    for folder in (os.environ.get("TMPDIR"), DISK_FOLDER):
        if folder and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
            return os.path.abspath(folder)
    return tempfile.gettempdir()


def open_temporary() -> BinaryIO:
    """Open a new file without a name, which vanishes when it is closed and nothing maps it."""
    return cast(BinaryIO, tempfile.TemporaryFile(prefix="amr-", dir=temporary_folder()))
