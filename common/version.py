"""Versions that results record."""

from __future__ import annotations

from importlib.metadata import version

DISTRIBUTION = "amr-fusion"  # on the package index, `amr` is another project


__version__ = version(DISTRIBUTION)


def versions(*packages: str) -> dict[str, str]:
    """Versions by package name: `amr` first, then the other packages."""
    return {"amr": __version__, **{name: version(name) for name in packages}}
