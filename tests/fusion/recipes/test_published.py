"""Every published setting is one that its method and `amr fit` have; names are found."""

from __future__ import annotations

import tomllib
from dataclasses import fields, replace

import pytest

from amr.common.options import parse_options
from amr.fusion.config import FitConfig
from amr.fusion.end_to_end.config import TrainConfig
from amr.fusion.methods import methods
from amr.fusion.recipes.published import FILE, check_recipe, find_recipe, read_recipes, recipes_of

RECIPES = read_recipes()
TABLES = tomllib.loads(FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_fits_its_method_and_is_what_the_config_then_has(name):
    recipe = find_recipe(name)
    options = parse_options(
        methods[recipe.method].Options, recipe.settings["method_option"], "--method-option", recipe.method
    )
    assert {*recipe.options} <= {each.name for each in fields(options)}
    config = FitConfig(recipe=name)
    assert {key: getattr(config, key) for key in recipe.settings} == recipe.settings
    assert replace(config, recipe=None) == FitConfig(**recipe.settings)  # and nothing else


@pytest.mark.parametrize("name", [name for name in RECIPES if methods[RECIPES[name].method].end_to_end])
def test_a_recipe_is_of_joint_training_of_encoders(name):
    config = TrainConfig(dataset="d", recipe=name)
    settings = RECIPES[name].settings
    assert replace(config, recipe=None) == TrainConfig(dataset="d", objective="joint", **settings)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_where_it_is_from(name):
    dataset, _, of = name.partition("/")
    table = TABLES[dataset][of]
    assert RECIPES[name].source == table["source"].strip()
    assert "code " in RECIPES[name].source
    assert {*table} - {"source", "note"} == {*RECIPES[name].settings}
    assert {"method", "optimizer", "lr", "batch_size", "method_option"} <= {*table}
    assert ("momentum" in table) == (table["optimizer"] == "sgd")
    assert ("lr_factor" in table) == (table.get("lr_step", 0) > 0)


def test_recipes_of_a_method_are_those_that_name_it():
    found = [recipe for method in methods for recipe in recipes_of(method)]
    assert sorted(recipe.name for recipe in found) == sorted(RECIPES)
    assert [recipe.name for recipe in recipes_of("smv")] == ["kinetics-sounds/smv", "kinetics-sounds/smv-modality"]
    assert recipes_of("naive") == []


def test_unknown_names_get_the_closest_one():
    with pytest.raises(
        ValueError, match=r"^--recipe must be one of .*, got 'crema-d/ogmge'. Did you mean crema-d/ogm-ge\?"
    ):
        find_recipe("crema-d/ogmge")
    with pytest.raises(ValueError, match=r"Did you mean crema-d/agm\?"):
        FitConfig(recipe="cremad/agm")


def test_a_recipe_is_of_one_method():
    check_recipe(None, ["naive", "dropout"])
    check_recipe("crema-d/g2d", ["umt", "umt"])
    with pytest.raises(ValueError, match="--method must be umt for --recipe crema-d/g2d, got naive, ume"):
        check_recipe("crema-d/g2d", ["naive", "umt", "ume"])
