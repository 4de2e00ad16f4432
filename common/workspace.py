"""Folders of the workspace: data/, caches/, encoders/ and runs/ (results), in $AMR_HOME or the current folder."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The workspace: $AMR_HOME, else the current folder."""
    return Path(os.environ.get("AMR_HOME") or ".")


def media_dir(dataset: str) -> Path:
    """Default folder of the media of a dataset."""
    return home() / "data" / dataset


def caches_dir() -> Path:
    """Folder in which caches are written and found by name."""
    return home() / "caches"


def encoders_dir() -> Path:
    """Folder in which your own encoders are written and found by name."""
    return home() / "encoders"


def runs_dir() -> Path:
    """Folder in which results are written."""
    return home() / "runs"


def find_cache(name: str | None, option: str = "--cache") -> Path:
    """Find a cache: by path, by name in caches/, or the only one in caches/.

    Args:
        name: Path of an .h5 file, name of one in caches/, or None.
        option: Name of the option, for errors.

    Raises:
        FileNotFoundError: No cache has that path or name, or caches/ is empty.
        ValueError: No name is given and caches/ holds several.
    """
    caches = sorted(caches_dir().glob("*.h5"))
    names = ", ".join(path.stem for path in caches) or "none"
    if name is not None:
        for path in (Path(name), caches_dir() / name, caches_dir() / f"{name}.h5"):
            if path.is_file():
                return path
        raise FileNotFoundError(
            f"{option} must be a cache file or the name of one in {caches_dir()} ({names}), got {name!r}. "
            "Make one with amr extract or amr import."
        )
    if not caches:
        raise FileNotFoundError(
            f"--cache must be given if {caches_dir()} has no cache, got none. Make one with amr extract or amr import."
        )
    if len(caches) > 1:
        raise ValueError(f"--cache must be given if {caches_dir()} has several ({names}), got none. Pass --cache NAME.")
    return caches[0]
