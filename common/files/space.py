"""Refuse work whose files do not fit on the disk, before any of it is done."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def check_space(
    folder: Path, num_bytes: int, what: str, advice: str = "Free some space, or choose another disk."
) -> None:
    """Refuse to write more than the disk has room for. Folders that are missing are not made.

    Args:
        folder: Folder that will be written to; it need not exist.
        num_bytes: Bytes that will be written.
        what: Name of the files for the error, such as "the cache".
        advice: What to type instead, for the error.

    Raises:
        ValueError: The disk has less room than that.
    """
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.exists(path))
    free = shutil.disk_usage(nearest).free
    if num_bytes > free:
        raise ValueError(
            f"{what} must fit on the disk, got {in_units(num_bytes)} for {in_units(free)} free at {str(folder)!r}. "
            f"{advice}"
        )


def in_units(num_bytes: float) -> str:
    """A number of bytes as people write it.

    >>> in_units(512), in_units(3 * 2**20), in_units(2.5e12)
    ('512 bytes', '3.0 MiB', '2.3 TiB')
    """
    unit = 0
    while num_bytes >= 1024 and unit < len(UNITS) - 1:
        num_bytes, unit = num_bytes / 1024, unit + 1
    return f"{num_bytes:.0f} bytes" if unit == 0 else f"{num_bytes:.1f} {UNITS[unit]}"
