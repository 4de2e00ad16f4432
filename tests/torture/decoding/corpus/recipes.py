"""A recipe: how one file of the corpus is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .encode import Pictures, Sound, encode


@dataclass(frozen=True)
class Recipe:
    """A file to make.

    Attributes:
        name: Name of the file, below the folder of the corpus.
        make: Function that is called with the path. Forms that cannot be written here raise.
    """

    name: str
    make: Callable[[Path], object]


def encoded(name: str, container: str, *tracks: Pictures | Sound, seed: int, **options: Any) -> Recipe:
    """A recipe for `encode`."""
    return Recipe(name, lambda path: encode(path, container, *tracks, seed=seed, **options))


def content(name: str, data: bytes | str) -> Recipe:
    """A recipe for a file with this content."""
    return Recipe(name, lambda path: path.write_bytes(data.encode() if isinstance(data, str) else data))
