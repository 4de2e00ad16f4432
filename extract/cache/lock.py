"""One writer per cache at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_held: set[Path] = set()  # POSIX locks do not exclude the process that holds them


@contextmanager
def lock(path: Path, option: str = "--out", work: str = "extraction", *, owner: Path | None = None) -> Iterator[None]:
    """Hold the lock of a cache, a store or a folder: the file `<path>.lock`. It ends with the process.

    A POSIX record lock on purpose: unlike flock, it is not inherited by workers that outlive a killed parent.

    Args:
        path: Path that is written.
        option: Option that sets the path, for the error.
        work: Noun for the job that writes it, for the error.
        owner: Path that `option` sets, if `path` is a file or folder in it, for the error.

    Raises:
        RuntimeError: Another process holds the lock.
    """
    path = path.absolute()
    lock_file = path.with_name(f"{path.name}.lock")
    descriptor = None if path in _held else _acquire(lock_file)
    if descriptor is None:
        raise RuntimeError(
            f"{str((owner or path).absolute())!r} must be written by one {work} at a time, got a second one. "
            f"Wait for the first to end, or pass another {option}."
        )
    _held.add(path)
    try:
        yield
    finally:
        _held.discard(path)
        lock_file.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(lock_file: Path) -> int | None:
    """Descriptor of the locked file; None if another process holds the lock."""
    while True:
        descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        # The last holder may have removed the file between our open and our lock. Then no process would see ours.
        with suppress(FileNotFoundError):
            if os.fstat(descriptor).st_ino == lock_file.stat().st_ino:
                return descriptor
        os.close(descriptor)
