"""Registry of things found by name: datasets, encoder families, heads, methods."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
_REGISTERED = re.compile(r"^@?\w+\.register\(\"([^\"]+)\"\)", re.MULTILINE)


@cache
def registered_names(folder: Path) -> tuple[str, ...]:
    """Names that the files of a folder register, read from their text: importing them may import torch."""
    files = sorted(folder.glob("*.py"))
    return tuple(name for file in files for name in _REGISTERED.findall(file.read_text(encoding="utf-8")))


def closest(name: str, available: Iterable[str]) -> str | None:
    """The name that is most like an unknown one, in either case; None if none is like it.

    >>> closest("OGM-GE", ["ogm", "ogm-ge"])
    'ogm-ge'
    """
    by_folded = {each.casefold(): each for each in available}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=1)
    return by_folded[close[0]] if close else None


def unknown(what: str, name: str, available: Iterable[str]) -> ValueError:
    """Error for an unknown name, with the closest name and all available ones.

    >>> raise unknown("head", "concta", ["concat", "sum"])
    Traceback (most recent call last):
    ValueError: head must be one of concat, sum, got 'concta'. Did you mean concat?
    """
    names = list(available)
    close = closest(name, names)
    hint = "" if close is None else f" Did you mean {close}?"
    return ValueError(f"{what} must be one of {', '.join(names) or '(none)'}, got {name!r}.{hint}")


class Registry(Generic[T]):
    """A dict that refuses a second entry of the same name and suggests the closest name for an unknown one.

    Args:
        what: Noun for an entry in errors, such as "head".
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that adds a class or object under `name`."""

        def add(entry: T) -> T:
            if name in self._entries:
                raise ValueError(
                    f"{self.what} {name!r} must be registered once, got a second one. Choose another name."
                )
            self._entries[name] = entry
            return entry

        return add

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            raise unknown(self.what, name, [n for n, entry in self._entries.items() if getattr(entry, "listed", True)])
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def items(self) -> Iterable[tuple[str, T]]:
        """Names and entries, in the order of registration."""
        return self._entries.items()
