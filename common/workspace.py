"""Where things are: data/, caches/, encoders/ and runs/ (results), below $AMR_HOME or the current folder."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The workspace: $AMR_HOME, else the current folder."""
    return Path(os.environ.get("AMR_HOME") or ".")


def media_dir(dataset: str) -> Path:
    """Where the media of a dataset are looked for when no root is given."""
    return home() / "data" / dataset


def caches_dir() -> Path:
    """Where caches are written and looked for by name."""
    return home() / "caches"


def encoders_dir() -> Path:
    """Where encoders of one's own are written and looked for by name."""
    return home() / "encoders"


def runs_dir() -> Path:
    """Where results are written."""
    return home() / "runs"


def find_cache(name: str | None, option: str = "--cache") -> Path:
    """The cache that is meant: a path, a name in caches/, or the only one there.

    Args:
        name: a path to an .h5 file, the name of one in caches/, or None.
        option: what the user calls it, for errors.

    Raises:
        FileNotFoundError: there is none, or no file at that path or under that name.
        ValueError: several are there and none was named.
    """
    there = sorted(caches_dir().glob("*.h5"))
    names = ", ".join(path.stem for path in there) or "none"
    if name is not None:
        for path in (Path(name), caches_dir() / name, caches_dir() / f"{name}.h5"):
            if path.is_file():
                return path
        raise FileNotFoundError(
            f"{option} must be a cache file or the name of one in {caches_dir()} ({names}), got {name!r}. "
            "Make one with amr extract or amr import."
        )
    if not there:
        raise FileNotFoundError(
            f"--cache must be given where {caches_dir()} holds no cache. Make one with amr extract or amr import."
        )
    if len(there) > 1:
        raise ValueError(f"--cache must be given where {caches_dir()} holds several: {names}. Pass --cache NAME.")
    return there[0]
