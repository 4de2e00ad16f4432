"""Count the changes that a process makes below a folder, and kill it just before one of them.

Python announces its own changes to audit hooks: open for writing, rename, remove, mkdir, rmdir, truncate. What it does
not announce is wrapped: files that h5py, safetensors and torch open in C, and writes in place. What changes nothing,
such as the removal of a file that is not there, does not count: a kill there is one before the next change.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# audit event -> its paths, by the places of path and dir_fd among its arguments
EVENTS = {
    "os.rename": ((0, 2), (1, 3)),
    "os.link": ((1, 3),),
    "os.symlink": ((1, 2),),
    "os.remove": ((0, 1),),
    "os.mkdir": ((0, 2),),
    "os.rmdir": ((0, 1),),
    "os.truncate": ((0, None),),
}


class Changes:
    """Changes below a folder by this process, one line each in a log. To be made in a process of its own.

    Args:
        folder: Folder that is watched.
        log: File for the changes, outside of the folder.
        kill_before: Number of the change, from 1, before which the process kills itself; None for none.
    """

    def __init__(self, folder: Path, log: Path, kill_before: int | None = None) -> None:
        self._folder = os.path.realpath(folder)
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self._kill_before = kill_before
        self._pid = os.getpid()
        self._number = 0
        self._lock = threading.RLock()
        self._wrap_what_is_not_announced()
        sys.addaudithook(self._heard)

    def change(self, what: str, *paths: str) -> None:
        """Count a change of these paths, if one is below the folder."""
        names = [os.path.relpath(path, self._folder) for path in paths if self._is_below(path)]
        if not names or os.getpid() != self._pid:
            return
        with self._lock:
            self._number += 1
            os.write(self._log, f"{what} {' '.join(names)}\n".encode())
            if self._number == self._kill_before:
                os.kill(self._pid, signal.SIGKILL)

    def _is_below(self, path: str) -> bool:
        return path.startswith(self._folder + os.sep)

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes | os.PathLike) and flags & WRITES:
                self.change("open", _absolute(path))
        elif event in EVENTS:
            places = [(arguments[path], None if fd is None else arguments[fd]) for path, fd in EVENTS[event]]
            paths = [_absolute(path, fd) for path, fd in places]
            if _has_effect(event, paths[0]):
                self.change(event.removeprefix("os."), *paths)

    def _wrap_what_is_not_announced(self) -> None:
        import h5py
        import torch

        def opened(self: Any, name: Any, mode: str = "r", *rest: Any, **options: Any) -> str | None:
            return None if mode == "r" or not isinstance(name, str | os.PathLike) else _absolute(name)

        def closed(file: Any) -> str | None:
            return None if not file or file.mode == "r" or file.driver == "fileobj" else _absolute(file.filename)

        def descriptor(fd: int, *rest: Any) -> str:
            return os.readlink(f"/proc/self/fd/{fd}")

        def second(data: Any, file: Any, *rest: Any, **options: Any) -> str | None:
            return _absolute(file) if isinstance(file, str | os.PathLike) else None

        self._wrap(h5py.File, "__init__", "open", opened)
        self._wrap(h5py.File, "close", "close", closed)
        self._wrap(torch, "save", "open", second)
        self._wrap(os, "pwrite", "pwrite", descriptor)

    def _wrap(self, owner: Any, name: str, what: str, path_of: Callable[..., str | None]) -> None:
        """Let a function count as a change of the path that `path_of` finds in its arguments."""
        function = getattr(owner, name)

        @functools.wraps(function)
        def counted(*arguments: Any, **options: Any) -> Any:
            path = path_of(*arguments, **options)
            if path is not None:
                self.change(what, path)
            return function(*arguments, **options)

        setattr(owner, name, counted)


def unexplained(names: Iterable[str], changes: Sequence[str]) -> list[str]:
    """Names in the folder that no change touched: some change was missed.

    A change touches the paths that it names. To rename or to remove a folder touches what is below it, too.
    """
    touched, moved = set[str](), set[str]()
    for what, *paths in (line.split(" ") for line in changes):
        touched |= {*paths}
        moved |= {*paths} if what in ("rename", "remove", "rmdir") else set()
    return [name for name in names if name not in touched and moved.isdisjoint(map(str, Path(name).parents))]


def _has_effect(event: str, path: str) -> bool:
    if event in ("os.mkdir", "os.link", "os.symlink"):
        return not os.path.lexists(path)
    if event == "os.rmdir" and os.path.isdir(path):
        return not os.listdir(path)
    return os.path.lexists(path)


def _absolute(path: Any, dir_fd: int | None = None) -> str:
    if isinstance(path, int):
        return os.readlink(f"/proc/self/fd/{path}")
    text = os.fsdecode(path)
    if dir_fd is not None and dir_fd >= 0 and not os.path.isabs(text):
        text = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), text)
    return os.path.abspath(text)
