"""The door to a damaged cache: whatever HDF5 raises becomes one sentence with the way out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
