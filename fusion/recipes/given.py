"""Take from a recipe what is not passed to a config."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any, Self

from amr.fusion.recipes.published import check_recipe, find_recipe

JOINT = {"objective": "joint"}  # of configs that have an objective: recipes are of joint training


class TakesRecipe:
    """Base of configs with a `recipe`: a setting that is not passed to them is the recipe's, if it has it.

    So a setting that is passed wins, also one that equals the default. `dataclasses.replace` and a saved config pass
    every setting, and take nothing. Options of the method are taken key by key.
    """

    recipe: str | None

    def __new__(cls, *args: Any, **settings: Any) -> Self:
        """Remember which settings are passed."""
        self = super().__new__(cls)
        if settings.get("recipe") is not None:
            names = [each.name for each in fields(cls)][: len(args)]  # type: ignore[arg-type]
            object.__setattr__(self, "_passed", {*names, *settings})
        return self

    def take_recipe(self) -> None:
        """Set what the recipe says and nobody passed, in place. Call it after `coerce_fields`.

        Raises:
            ValueError: There is no such recipe, or it is of another method.
        """
        passed = self.__dict__.pop("_passed", None)
        if passed is None:
            return
        config = {each.name: getattr(self, each.name) for each in fields(self)}  # type: ignore[arg-type]
        for name, value in taken(config, passed).items():
            object.__setattr__(self, name, value)


def recipe_settings(name: str, known: Collection[str]) -> dict[str, Any]:
    """Settings of a recipe that a config has.

    Args:
        name: Name of the recipe.
        known: Names of the config's settings.
    """
    return {key: value for key, value in (JOINT | {**find_recipe(name).settings}).items() if key in known}


def taken(config: Mapping[str, Any], passed: Collection[str]) -> dict[str, Any]:
    """Settings that a config takes from its recipe.

    Args:
        config: Every setting of the config; that of `recipe` is a name.
        passed: Names of the settings that are passed.

    Raises:
        ValueError: There is no such recipe, or it is of another method than the one that is passed.
    """
    settings = recipe_settings(config["recipe"], config)
    if {*settings} <= {*passed}:
        return {}
    if "method" in passed:
        check_recipe(config["recipe"], [config["method"]])
    found = {name: value for name, value in settings.items() if name not in passed}
    if "method_option" in settings:
        found["method_option"] = merged(settings["method_option"], config["method_option"])
    if "optimizer" in passed and config["optimizer"] != settings.get("optimizer"):
        found.pop("momentum", None)  # it belongs to the optimizer
    if "lr_step" in passed and config["lr_step"] == 0:
        found.pop("lr_factor", None)  # there is no step
    return found


def merged(published: Sequence[str], own: Sequence[str]) -> tuple[str, ...]:
    """KEY=VALUE texts of a recipe, without those of keys that one's own texts have, then one's own.

    >>> merged(("alpha=0.8", "end_epoch=52"), ("alpha=1",))
    ('end_epoch=52', 'alpha=1')
    """
    keys = {_key(text) for text in own}
    return (*(text for text in published if _key(text) not in keys), *own)


def _key(text: str) -> str:
    return text.partition("=")[0].strip().replace("-", "_")
