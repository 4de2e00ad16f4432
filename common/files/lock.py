"""One writer per file or folder at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from amr.common.files.writing import is_at

SECONDS_BETWEEN_TRIES = 0.2

_held: set[Path] = set()  # POSIX locks do not exclude the process that holds them


class Locked(RuntimeError):
    """Another process holds a lock, or this one does already."""


@contextmanager
def lock(
    path: Path,
    option: str = "--out",
    work: str = "extraction",
    *,
    owner: Path | None = None,
    on_wait: Callable[[], None] | None = None,
) -> Iterator[None]:
    """Hold the lock of a cache, a store or a folder: the file `<path>.lock`. It ends with the process.

    A POSIX record lock on purpose: workers do not inherit it, so it ends with this process alone. With flock, the last
    of them would have to end, too.

    Args:
        path: Path that is written.
        option: Option that sets the path, for the error.
        work: Noun for the job that writes it, for the error.
        owner: Path that `option` sets, if `path` is a file or folder in it, for the error.
        on_wait: Function that is called once if another process holds the lock, before waiting for it; by default
            that is an error.

    Raises:
        Locked: Another process holds the lock and `on_wait` is not given, or this process holds it already.
    """
    path = path.absolute()
    lock_file = _lock_file(path)
    descriptor = None if path in _held else _acquire(lock_file)
    if descriptor is None and path not in _held and on_wait is not None:
        on_wait()
        descriptor = _wait(lock_file)
    if descriptor is None:
        raise Locked(
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


def is_left(path: Path) -> bool:
    """Whether a killed process left the lock of a path. It hinders nobody: the next `lock` takes it over."""
    path = path.absolute()
    if path in _held:  # a second descriptor of the file, closed, would release the lock
        return False
    with suppress(OSError):
        descriptor = os.open(_lock_file(path), os.O_RDWR)
        try:
            os.lockf(descriptor, os.F_TEST, 0)
            return True
        finally:
            os.close(descriptor)
    return False


def remove_left(path: Path) -> None:
    """Remove the lock of a path if a killed process left it, for a command that finds its work done."""
    if is_left(path):
        with suppress(Locked, OSError), lock(path):
            pass


def _lock_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _wait(lock_file: Path) -> int:
    """Descriptor of the locked file, once its holder has released it or died. Ctrl-C ends the sleep between tries."""
    while (descriptor := _acquire(lock_file)) is None:
        time.sleep(SECONDS_BETWEEN_TRIES)
    return descriptor


def _acquire(lock_file: Path) -> int | None:
    """Descriptor of the locked file; None if another process holds the lock."""
    while True:
        descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno not in (errno.EACCES, errno.EAGAIN):  # a file system without locks would be waited for
                raise
            return None
        # The last holder may have removed the file between our open and our lock. Then no process would see ours.
        if is_at(lock_file, descriptor):
            return descriptor
        os.close(descriptor)
