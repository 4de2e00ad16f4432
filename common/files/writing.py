"""Write files so that a kill leaves the old file or the new one, never a part."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def replacing(file: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a path in the folder of `file` to write to, which then replaces `file` in one step.

    The path keeps the suffix, because some libraries choose the format by it. If the block raises, nothing is left. A
    file left by a kill is replaced by the next write. Of several commands that write the same file, one waits for the
    other. So what is written must not go through a file of another name, as with safetensors' `save_file`.

    Args:
        file: File to write.
        durable: Whether to wait until the bytes are on the disk, so that a power cut cannot lose them.
    """
    partial = partial_path(file)
    if partial.is_symlink():  # nobody's file is written through a link that came with a folder
        partial.unlink()
    with _claimed(partial):
        try:
            yield partial
            if durable:
                sync(partial)
            os.replace(partial, file)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextmanager
def _claimed(partial: Path) -> Iterator[None]:
    """Hold an unfinished file for this writer alone.

    By flock: a record lock, as in `lock`, would end with the first descriptor that a library closes.
    """
    while True:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            with suppress(OSError):  # of a file system without locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if is_at(partial, descriptor):  # the last writer has not moved it away between our open and our lock
                yield
                return
        finally:
            os.close(descriptor)


def is_at(path: Path, descriptor: int) -> bool:
    """Whether the file of a descriptor is still the one at this path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def partial_path(file: Path) -> Path:
    """The unfinished file that a killed `replacing` leaves."""
    return file.with_name(f".{file.stem}.partial{file.suffix}")


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(file: Path, value: Any, *, durable: bool = False) -> None:
    """Write indented JSON."""
    write_text(file, json_text(value), durable=durable)


def json_text(value: Any) -> str:
    """Indented JSON, as `write_json` writes it."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_csv(file: Path, table: pd.DataFrame) -> None:
    """Write a table with numbers to 6 significant digits."""
    text = table.to_csv(index=False, float_format="%.6g")
    if "\r" in text:  # a carriage return is not quoted by itself, and would end the row
        text = table.to_csv(index=False, float_format="%.6g", quoting=csv.QUOTE_NONNUMERIC)
    write_text(file, text)


def write_text(file: Path, text: str, *, durable: bool = False) -> None:
    r"""Write UTF-8 text; a byte of a file's name that is no UTF-8 becomes an escape such as \udcff, as in JSON."""
    with replacing(file, durable=durable) as partial:
        partial.write_bytes(utf8(text))


def utf8(text: str) -> bytes:
    """Bytes of a text as `write_text` writes them."""
    return text.encode("utf-8", "backslashreplace")


def remove_folder(folder: Path) -> None:
    """Remove a folder, renamed first: a kill leaves no half of it under its name."""
    finish_removal(folder)
    removed = folder.with_name(removed_name(folder.name))
    with suppress(FileNotFoundError):
        folder.rename(removed)
        shutil.rmtree(removed)


def finish_removal(folder: Path) -> None:
    """Remove what a kill in `remove_folder` left."""
    shutil.rmtree(folder.with_name(removed_name(folder.name)), ignore_errors=True)


def removed_name(name: str) -> str:
    """Name of a folder while it is removed."""
    return f".{name}.removed"
