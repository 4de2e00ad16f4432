"""Settings of a frontier whose fits are by a recipe: UME is of no recipe."""

from __future__ import annotations

from amr.fusion.frontier.config import FrontierConfig
from amr.fusion.frontier.settings import UME, settings_of
from amr.fusion.recipes.published import find_recipe


def test_every_fit_has_the_settings_of_the_recipe_and_ume_is_another_method():
    name = "crema-d/ogm-ge"
    published = {**find_recipe(name).settings, "recipe": name}
    settings = settings_of(FrontierConfig(recipe=name, adapter="linear"), ["audio", "video"])
    fits = {each.label: each.config for each in settings if each.config is not None}
    plain = next(iter(fits.values()))
    assert {key: getattr(plain, key) for key in published} == published
    for setting in settings:
        if setting.kind == UME:
            assert (setting.config.method, setting.config.recipe, setting.config.epochs) == ("ume", None, 100)
        elif setting.config is not None:
            assert (setting.config.method, setting.config.recipe) == ("ogm-ge", name)
