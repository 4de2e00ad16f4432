"""The door to a cache: whatever HDF5 raises for a damaged file becomes one sentence with the way out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from amr.common.processes import first_line


class Finding(Exception):
    """What a check of a cache found, in words."""


class DamagedCache(RuntimeError):
    """A cache that is not what was written."""


class NotInCache(ValueError):
    """A request for something that an intact cache does not hold."""


@contextmanager
def intact(path: Path) -> Iterator[None]:
    """Turn every error of the block into one of a damaged cache.

    Args:
        path: Path of the cache, for the error.

    Raises:
        DamagedCache: The block raised. h5py has no error class of its own: damage shows as nearly any exception.
        RuntimeError: The block ran out of memory.
    """
    try:
        yield
    except (DamagedCache, NotInCache):
        raise
    except MemoryError as error:
        raise RuntimeError(
            f"cache {str(path)!r} must fit into memory, got too little of it ({error}). Read fewer of its embeddings."
        ) from error
    except Exception as error:
        raise DamagedCache(
            f"cache {str(path)!r} must be intact, got a damaged file ({brief(error)}). "
            "See amr verify, or extract or import it again with --overwrite."
        ) from error


def brief(error: BaseException) -> str:
    """First line of an error, with its kind unless a check wrote it."""
    return first_line(error).removeprefix(f"{Finding.__name__}: ")


def open_file(path: Path) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is another kind of file.
        RuntimeError: It is in use, or too damaged to open.
    """
    if not path.is_file():
        raise FileNotFoundError(f"cache must be a file, got {str(path)!r}. Make one with amr extract or amr import.")
    with path.open("rb") as content:
        is_hdf5 = content.read(8) == b"\x89HDF\r\n\x1a\n"
    if not is_hdf5:
        raise ValueError(f"cache must be an HDF5 file, got {str(path)!r}. Make one with amr extract or amr import.")
    try:
        return h5py.File(path, "r")
    except Exception as error:
        if isinstance(error, OSError):
            _check_unlocked(path, error)
        with intact(path):
            raise


def _check_unlocked(path: Path, error: OSError) -> None:
    """Raise another error if HDF5 could not open a file because it is locked, and not because it is damaged.

    Raises:
        RuntimeError: Another program has the file open for writing, or its file system has no locks.
    """
    if isinstance(error, BlockingIOError) or "unable to lock file" in str(error):
        raise RuntimeError(
            f"cache {str(path)!r} must not be open for writing in another program, got a locked file. Close it there. "
            "If no program has it open, its disk has no locks: set HDF5_USE_FILE_LOCKING=FALSE."
        ) from error
