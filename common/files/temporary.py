"""Temporary files for what is too large for memory, in a folder that is not memory itself."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from amr.common.files.space import in_units

DISK_FOLDER = "/var/tmp"  # noqa: S108 - unlike /tmp, which is memory on many systems; our files have no name there


class NoRoom(ValueError):
    """A temporary file cannot be made, filled or mapped. The message says what to type next."""


def temporary_folder() -> str:
    """Folder for large temporary files: the first of TMPDIR and /var/tmp that can be written, else that of Python."""
    for folder in (os.environ.get("TMPDIR"), DISK_FOLDER):
        if folder and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
            return os.path.abspath(folder)
    return tempfile.gettempdir()


def open_temporary() -> BinaryIO:
    """Open a new file without a name, which vanishes when it is closed and nothing maps it."""
    return cast(BinaryIO, tempfile.TemporaryFile(prefix="amr-", dir=temporary_folder()))


@contextmanager
def needing_room(what: str, kind: type[Exception] = NoRoom) -> Iterator[None]:
    """Say in one sentence why a temporary file cannot be made, filled or mapped.

    Args:
        what: What needs it, such as "5.0 GiB".
        kind: Type of the error.

    Raises:
        NoRoom: The block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        raise kind(_sentence(error, what)) from None


def _sentence(error: OSError, what: str) -> str:
    reason, folder = repr(error.strerror or str(error)), temporary_folder()
    if error.errno == errno.ENOMEM:
        advice = "Raise `ulimit -v`, which counts mapped files, too."
        return f"the addresses of a process must have room for {what} in a temporary file, got {reason}. {advice}"
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"the temporary folder {folder!r} must take a file, got {reason}. Set TMPDIR to another folder."
    got = f"{in_units(shutil.disk_usage(folder).free)} free" if error.errno == errno.ENOSPC else reason
    advice = "Raise `ulimit -f`" if error.errno == errno.EFBIG else "Free space there"
    return (
        f"the temporary folder {folder!r} must have room for {what}, got {got}. {advice}, or set TMPDIR to another "
        "folder."
    )
