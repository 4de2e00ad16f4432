"""Checksums of the files of a folder: `SHA256SUMS`, as coreutils write it, so that `sha256sum -c SHA256SUMS` checks it.

A line is written after its file, or before it where the file is new, and is removed before its file is replaced. So a
kill leaves files without a line, never a line that is wrong. Files without a line, such as those of version 0.1, pass.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from amr.common.files.writing import replacing, utf8, write_text

CHECKSUMS = "SHA256SUMS"
DIFFERS = f"its bytes are not those of its line in {CHECKSUMS}"
TRIES = 2  # of reading a line, then its file: the file may be replaced in between
_LINE = re.compile(r"(\\?)([0-9a-fA-F]{64}) [ *]([^/]+)")  # a backslash first says that the name has escapes
_ESCAPES = {"\\": r"\\", "\n": r"\n", "\r": r"\r"}


class Damaged(ValueError):
    """A file is not as it was written."""


@contextmanager
def checksummed(folder: Path, *names: str) -> Iterator[None]:
    """Write files of a folder in the block; their lines are removed before it, and added after it."""
    remove_checksums(folder, names)
    yield
    add_checksums(folder, names)


def add_checksums(folder: Path, names: Iterable[str]) -> None:
    """Add or replace the lines of those of the files that exist."""
    with _held(folder):
        _update(folder, {name: file_sha256(folder / name) if (folder / name).is_file() else None for name in names})


def remove_checksums(folder: Path, names: Iterable[str]) -> None:
    """Remove the lines of files, before they are replaced or removed. Files whose line is gone pass."""
    with _held(folder):
        _update(folder, dict.fromkeys(names))


def write_last(file: Path, text: str, names: Iterable[str] = ()) -> None:
    """Write the file whose presence says that its folder is finished, after its line and those of other files.

    Args:
        file: File to write.
        text: Its content.
        names: Names of the other files, as far as they exist.
    """
    file.unlink(missing_ok=True)  # its line comes first
    with _held(file.parent):
        others = [name for name in names if name != CHECKSUMS and (file.parent / name).is_file()]
        digests: dict[str, str | None] = {name: file_sha256(file.parent / name) for name in others}
        _update(file.parent, digests | {file.name: hashlib.sha256(utf8(text)).hexdigest()})
    write_text(file, text)


def read_checked(file: Path) -> bytes:
    """Read a file.

    Raises:
        Damaged: Its bytes are not those of its line.
        OSError: It cannot be read.
    """
    for _ in range(TRIES):
        line, content = _line_of(file), file.read_bytes()
        if line in (None, hashlib.sha256(content).hexdigest()):
            return content
    raise Damaged(DIFFERS)


def check_file(file: Path) -> None:
    """Check a file that is too large to be read at once.

    Raises:
        Damaged: Its bytes are not those of its line.
        OSError: It cannot be read.
    """
    if _differs(file):
        raise Damaged(DIFFERS)


def damaged_names(folder: Path) -> list[str]:
    """Names of the files of a folder that have a line, and are gone or have other bytes."""
    return [name for name in read_checksums(folder) if not (folder / name).is_file() or _differs(folder / name)]


def has_checksum(file: Path) -> bool:
    """Whether a file has a line."""
    return _line_of(file) is not None


def read_checksums(folder: Path) -> dict[str, str]:
    """Name to the checksum of each line; empty if there are none."""
    return dict(line for text in _lines(folder) if (line := _parsed(text)) is not None)


def file_sha256(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _line_of(file: Path) -> str | None:
    return read_checksums(file.parent).get(file.name)


def _differs(file: Path) -> bool:
    return all((line := _line_of(file)) is not None and line != file_sha256(file) for _ in range(TRIES))


def _parsed(text: str) -> tuple[str, str] | None:
    """Name and checksum of a line; None for another line."""
    line = _LINE.fullmatch(text)
    if line is None:
        return None
    name = line[3]
    if line[1]:
        plain = {escaped: character for character, escaped in _ESCAPES.items()}
        name = re.sub(r"\\.", lambda found: plain.get(found[0], found[0]), name)
    return name, line[2].lower()


def _written(name: str, digest: str) -> str:
    """Line of a file, as coreutils write it."""
    escaped = "".join(_ESCAPES.get(character, character) for character in name)
    return f"{'' if escaped == name else chr(92)}{digest}  {escaped}"


def _update(folder: Path, digests: Mapping[str, str | None]) -> None:
    """Replace the lines of some files; None for no line. Lines of other files stay. The caller holds the folder."""
    file, lines = folder / CHECKSUMS, _lines(folder)
    others = [text for text in lines if (line := _parsed(text)) is None or line[0] not in digests]
    wanted = others + [_written(name, digest) for name, digest in digests.items() if digest is not None]
    wanted.sort(key=lambda text: text.lstrip("\\")[66:])
    if wanted == lines:
        return
    if file.is_dir():
        raise ValueError(f"{CHECKSUMS} must be a file, got the folder {str(file)!r}. Move it away.")
    if not wanted:
        file.unlink(missing_ok=True)
        return
    with replacing(file) as partial:
        partial.write_text("".join(f"{text}\n" for text in wanted), encoding="utf-8", errors="surrogateescape")


def _lines(folder: Path) -> list[str]:
    with suppress(FileNotFoundError, IsADirectoryError):
        return (folder / CHECKSUMS).read_text(encoding="utf-8", errors="surrogateescape").split("\n")[:-1]
    return []


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a folder for a moment, so that no process overwrites the lines of another; nothing is left of it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # nothing is written there yet
        yield
        return
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
