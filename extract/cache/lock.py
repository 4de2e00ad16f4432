"""One writer a cache at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_held: set[Path] = set()  # POSIX locks do not keep out the process that holds them


@contextmanager
def lock(path: Path, option: str = "--out", work: str = "extraction") -> Iterator[None]:
    """Hold the lock of a cache, a store or a folder, the file `<path>.lock`; it goes with the process.

    A POSIX record lock on purpose: unlike flock, workers that outlive a killed parent do not inherit it.

    Args:
        path: of what is written.
        option: that names it, for the error.
        work: what writes it, likewise.

    Raises:
        RuntimeError: another process holds it.
    """
    path = path.absolute()
    beside = path.with_name(f"{path.name}.lock")
    descriptor = None if path in _held else _take(beside)
    if descriptor is None:
        raise RuntimeError(
            f"{str(path)!r} must be written by one {work} at a time, and another one is writing it. "
            f"Wait for it to end, or pass another {option}."
        )
    _held.add(path)
    try:
        yield
    finally:
        _held.discard(path)
        beside.unlink(missing_ok=True)
        os.close(descriptor)


def _take(beside: Path) -> int | None:
    """The locked file's descriptor, None if another process has it."""
    while True:
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        # Its last holder may have removed the file between our open and our lock: then nobody else sees ours.
        with suppress(FileNotFoundError):
            if os.fstat(descriptor).st_ino == beside.stat().st_ino:
                return descriptor
        os.close(descriptor)
