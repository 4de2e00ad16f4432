"""`amr methods NAME`: the defaults of a method beside its recipes."""

from __future__ import annotations

import json

import pytest

from amr import cli
from amr.fusion.methods import methods
from amr.fusion.recipes.published import recipes_of
from amr.fusion.resolve import default_settings


@pytest.mark.parametrize("name", ["ogm-ge", "pmr", "umt", "naive"])
def test_a_method_is_shown_with_its_recipes(name, capsys):
    assert cli.run(["methods", name, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert cli.run(["methods", "--json"]) == 0
    (listed,) = [row for row in json.loads(capsys.readouterr().out) if row["name"] == name]
    assert {key: shown[key] for key in listed} == listed
    assert shown["defaults"] == default_settings(name)
    assert {*shown["meanings"]} == {*shown["options"]}
    assert shown["recipes"] == [recipe.to_json() for recipe in recipes_of(name)]
    assert cli.run(["methods", name]) == 0
    text = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.startswith(("--", "  "))}
    assert rows["--lr"] == [f"{methods[name].lr:g}", *(f"{each.settings['lr']:g}" for each in recipes_of(name))]
    for recipe in recipes_of(name):
        assert recipe.source.split(",")[0] in text
        for key, value in recipe.options.items():
            assert value in rows[key]


def test_unknown_methods_get_the_closest_name(capsys):
    assert cli.run(["methods", "ogmge"]) == 2
    assert "NAME must be one of " in (error := capsys.readouterr().err)
    assert "Did you mean ogm-ge?" in error
    assert cli.run(["methods", "OGM-GE"]) == 2
    assert "Did you mean ogm-ge?" in capsys.readouterr().err
    assert cli.run(["methods", "BML"]) == 2
    assert "It is --method ogm --method-option opm=true; amr methods ogm explains it." in capsys.readouterr().err


def test_options_are_listed_as_they_are_typed(capsys):
    assert cli.run(["methods"]) == 0
    text = capsys.readouterr().out
    assert "both_ways=false" in text
    assert "warm_up=0.08333," in text
    assert cli.run(["heads"]) == 0
    assert "num_heads=4" in capsys.readouterr().out
