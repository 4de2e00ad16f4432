"""Read the recipes: the published settings of methods by data set, from published.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from amr.common.registry import unknown

FILE = Path(__file__).with_name("published.toml")


@dataclass(frozen=True)
class Published:
    """Published settings of a method on a data set.

    Args:
        name: Name of the recipe, such as crema-d/ogm-ge.
        settings: Option to its value, `method` among them; what is not published is missing.
        source: Publication or code that states them.
        note: Differences from what is published; empty if there are none.
    """

    name: str
    settings: Mapping[str, Any]
    source: str
    note: str = ""

    @property
    def method(self) -> str:
        """Training method that it is of."""
        return str(self.settings["method"])

    @property
    def options(self) -> dict[str, str]:
        """Option of the method to the text of its value."""
        return dict(text.split("=", 1) for text in self.settings.get("method_option", ()))

    def to_json(self) -> dict[str, Any]:
        """Recipe as in `amr methods NAME --json`."""
        settings = {name: list(v) if isinstance(v, tuple) else v for name, v in self.settings.items()}
        return {"name": self.name, "settings": settings, "source": self.source, "note": self.note}


@cache
def read_recipes() -> Mapping[str, Published]:
    """Read name to recipe, in the order of published.toml."""
    tables = tomllib.loads(FILE.read_text(encoding="utf-8"))
    found = [_published(f"{dataset}/{name}", table) for dataset, of in tables.items() for name, table in of.items()]
    return MappingProxyType({each.name: each for each in found})


def _published(name: str, table: dict[str, Any]) -> Published:
    source, note = table.pop("source"), table.pop("note", "")
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    return Published(name, MappingProxyType(settings), source.strip(), note.strip())


def find_recipe(name: str) -> Published:
    """Find a recipe by its name.

    Raises:
        ValueError: There is no such recipe.

    >>> find_recipe("crema-d/ogm-ge").settings["lr"]
    0.001
    """
    recipes = read_recipes()
    if name not in recipes:
        raise unknown("--recipe", name, recipes)
    return recipes[name]


def recipes_of(method: str) -> list[Published]:
    """Recipes of a method.

    >>> [recipe.name for recipe in recipes_of("opm")]
    ['kinetics-sounds/opm']
    """
    return [recipe for recipe in read_recipes().values() if recipe.method == method]


def check_recipe(name: str | None, methods: Sequence[str]) -> None:
    """Raise ValueError for a method that a recipe is not of.

    Args:
        name: Name of the recipe; None for no recipe.
        methods: Methods that are requested.
    """
    if name is None:
        return
    recipe = find_recipe(name)
    others = [method for method in methods if method != recipe.method]
    if others:
        raise ValueError(
            f"--method must be {recipe.method} for --recipe {name}, got {', '.join(others)}. "
            "Leave --method out, or leave --recipe out."
        )
