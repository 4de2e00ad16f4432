"""Paths without the machine: a page is mailed, and where its author keeps files is nobody's business."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from amr.common.workspace import caches_dir, encoders_dir, home, runs_dir

# an absolute path: a root and at least one more part; not that of a URL, nor a fraction such as 0.5/0.5
_ABSOLUTE = re.compile(r"(?<![\w./~-])(?!//)~?/[^\s'\"<>|,;()/]+/[^\s'\"<>|,;()]*")


def shown_path(path: str | os.PathLike[str]) -> str:
    """Path as a page shows it: within the workspace or the current folder, else the name alone."""
    text = os.fspath(path)
    if not os.path.isabs(text):
        return Path(text).as_posix() if not text.startswith("~") else Path(text).name
    for root in (home(), Path()):
        absolute = Path(os.path.abspath(root))
        for each in (Path(text), Path(os.path.realpath(text))):
            for base in (absolute, Path(os.path.realpath(absolute))):
                if each.is_relative_to(base) and each != base:
                    return each.relative_to(base).as_posix()
    return Path(text).name


def as_named(path: str | os.PathLike[str]) -> str:
    """Path as commands find it from anywhere: by name in the workspace's caches/, runs/ and encoders/."""
    absolute = Path(os.path.abspath(path))
    for place in (caches_dir(), runs_dir(), encoders_dir()):
        if absolute.parent in (Path(os.path.abspath(place)), Path(os.path.realpath(place))):
            return absolute.stem if absolute.suffix == ".h5" else absolute.name
    return shown_path(path)


def without_paths(text: str, known: Mapping[str, str] | None = None) -> str:
    """Text with every absolute path as a page shows it.

    Args:
        text: Note, warning or other text.
        known: Paths that may occur, which may have blanks in them, to what is shown.

    >>> without_paths("run amr inspect /data/mine/caches/a.h5, then 0.50/0.50")
    'run amr inspect a.h5, then 0.50/0.50'
    """
    for path in sorted(known or {}, key=len, reverse=True):
        if os.path.isabs(path):
            text = text.replace(path, (known or {})[path])
    return _ABSOLUTE.sub(lambda found: shown_path(os.path.expanduser(found[0])), text)
