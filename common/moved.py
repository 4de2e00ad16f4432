"""Old import paths, which work for one more release and warn."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

UNTIL = "0.3"


class _MovedModule(ModuleType):
    """A removed module, whose names are looked up in the modules that have them now."""

    def __init__(self, name: str, new: Sequence[str]) -> None:
        super().__init__(name, f"Moved to {', '.join(new)}.")
        self._new = tuple(new)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _find(self.__name__, name, self._new)


def moved_modules(modules: Mapping[str, Sequence[str]]) -> None:
    """Make removed modules importable.

    Args:
        modules: Old dotted name to the modules that have its names now.
    """
    for old, new in modules.items():
        module = _MovedModule(old, new)
        sys.modules[old] = module
        parent, _, child = old.rpartition(".")
        setattr(sys.modules[parent], child, module)


def moved_names(module: str, new: Sequence[str], renamed: Mapping[str, str] | None = None) -> Callable[[str], Any]:
    """The `__getattr__` of a module whose names were moved or renamed.

    Args:
        module: Dotted name of the module.
        new: Modules that have the names now.
        renamed: Old name to new name.
    """

    def get(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _find(module, name, new, (renamed or {}).get(name, name))

    return get


def _find(old: str, name: str, new: Sequence[str], new_name: str | None = None) -> Any:
    new_name = new_name or name
    for module in new:
        found = vars(import_module(module)).get(new_name)
        if found is not None:
            where = getattr(found, "__module__", None) or module
            text = f"{old}.{name} is now {where}.{new_name}; the old name works until amr {UNTIL}."
            warnings.warn(text, DeprecationWarning, stacklevel=3)
            return found
    raise AttributeError(f"module {old!r} has no attribute {name!r}")
