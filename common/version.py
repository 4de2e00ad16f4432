"""Versions that results record."""

from __future__ import annotations

import functools
from importlib.metadata import version

DISTRIBUTION = "amr-fusion"  # on the package index, `amr` is another project


__version__ = version(DISTRIBUTION)


def versions(*packages: str) -> dict[str, str]:
    """Versions by package name: `amr` first, then the other packages."""
    return {"amr": __version__, **{name: _found(name) for name in packages}}


@functools.cache
def _found(package: str) -> str:
    return version(package)  # reads the package's metadata from the disk
