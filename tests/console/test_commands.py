"""Typed options win over the recipe, in every command that takes one."""

from __future__ import annotations

from typing import Any

import pytest

from amr import cli
from amr.fusion.config import FitConfig
from amr.fusion.frontier.config import FrontierConfig
from amr.fusion.swept import SweepConfig

NAME = "crema-d/ogm-ge"


@pytest.fixture
def requested(monkeypatch):
    """Function of a command line that returns the config it is run with."""
    monkeypatch.setattr(cli, "find_cache", lambda *_: None)
    monkeypatch.setattr("amr.console.frontier.find_cache", lambda *_: None)
    seen: list[Any] = []
    for function in ("fit.fit", "sweep.sweep.sweep", "frontier.frontier.frontier"):
        monkeypatch.setattr(f"amr.fusion.{function}", lambda config, *_, **__: seen.append(config) or 1 / 0)

    def run(line: str) -> Any:
        with pytest.raises(ZeroDivisionError):
            cli.run(line.split())
        return seen[-1]

    return run


@pytest.mark.parametrize(
    ("typed", "settings"),
    [
        ("", {}),
        ("--method ogm-ge --lr 0.1", {"lr": 0.1}),
        ("--epochs 60 --batch-size 64", {"epochs": 60}),  # the defaults
        ("--method-option alpha=0.5", {"method_option": ("start_epoch=1", "end_epoch=52", "alpha=0.5")}),
        ("--lr-step 0", {"lr_step": 0, "lr_factor": None}),
    ],
)
def test_what_is_typed_wins(requested, typed, settings):
    assert requested(f"fit --recipe {NAME} {typed}") == FitConfig(recipe=NAME, **settings)
    assert requested(f"sweep --recipe {NAME} {typed}") == SweepConfig(FitConfig(recipe=NAME, **settings))
    assert requested(f"frontier --recipe {NAME} {typed}") == FrontierConfig(recipe=NAME, **settings)


def test_without_a_recipe_the_defaults_stand(requested):
    assert requested("fit") == FitConfig()
    assert requested("frontier --epochs 3") == FrontierConfig(epochs=3)
    assert requested("sweep --lr-step 5 --momentum 0.5 --optimizer sgd").base.lr_step == 5


@pytest.mark.parametrize("command", ["fit", "sweep", "frontier", "train-encoders --dataset synthetic"])
def test_wrong_recipes_are_refused(command, capsys):
    assert cli.run(f"{command} --recipe crema-d/ogmge".split()) == 2
    assert "got 'crema-d/ogmge'. Did you mean crema-d/ogm-ge?" in capsys.readouterr().err
    assert cli.run(f"{command} --recipe {NAME} --method naive".split()) == 2
    assert "--method must be ogm-ge for --recipe crema-d/ogm-ge, got naive." in capsys.readouterr().err
