"""The printed command, run again, requests what made the folder."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, replace
from typing import Any

import pytest

from amr import cli
from amr.fusion.config import FitConfig
from amr.fusion.end_to_end.config import TrainConfig
from amr.fusion.end_to_end.folder import requested
from amr.fusion.frontier.config import FrontierConfig
from amr.fusion.frontier.frontier import _changed
from amr.fusion.recipes.published import find_recipe
from amr.fusion.report.read import read_results
from amr.fusion.report.text.commands import _frontier, _options, commands
from amr.fusion.sweep.table import TABLE_1, default_methods
from amr.fusion.swept import SweepConfig

RECIPE = "crema-d/ogm-ge"


@pytest.fixture(autouse=True)
def any_cache(monkeypatch, tmp_path):
    """The command line looks for the cache first; these tests have none. Folders are in the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "find_cache", lambda *_: None)


def arguments(command: str) -> list[str]:
    name, *rest = shlex.split(command.replace("\\\n", " "))
    assert name == "amr"
    return rest


@pytest.mark.parametrize(
    "swept",
    [
        SweepConfig(FitConfig(cache="gone"), ("concat",), ("naive",), (None, "1:1"), (), (None,), (0, 1, 2)),
        SweepConfig(
            FitConfig(cache="a b.h5", keep_flagged=True, folds=5, method_option=("p=0.3",), epochs=7, weight_decay=0.5),
            ("sum", "film"),
            ("dropout",),
            ("audio=3:video=1",),
            (0.5, 2.0),
            (0.01,),
            (3, 7),
        ),
        SweepConfig(FitConfig(cache="gone", recipe=RECIPE)),
        SweepConfig(FitConfig(cache="gone", recipe=RECIPE, epochs=60, momentum=0.5), lr=(0.001, 0.01), seed=(0, 1)),
        SweepConfig(FitConfig(cache="gone", recipe=RECIPE, lr=0.01, method_option=("alpha=0.3",)), amr_ratio="1:1"),
    ],
)
def test_the_command_of_a_sweep_gives_its_config(made, monkeypatch, swept):
    folder = made()
    (folder / "sweep.json").write_text(json.dumps(asdict(swept)))
    seen: list[Any] = []
    monkeypatch.setattr("amr.fusion.sweep.sweep.sweep", lambda config, *_, **__: seen.append(config) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.run(arguments(commands(read_results(folder))[0]))
    assert replace(seen[0], base=replace(seen[0].base, out=None)) == swept
    assert seen[0].base.out == folder.name


def test_the_command_of_a_fit_gives_its_config(made, monkeypatch):
    run = read_results(made()).runs[2]
    seen: list[Any] = []
    monkeypatch.setattr("amr.fusion.fit.fit", lambda config, *_, **__: seen.append(config) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.run(arguments(commands(read_results(run.folder))[0]))
    assert asdict(replace(seen[0], out=None)) == asdict(run.config)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"epochs": FitConfig.epochs, "lr": 0.5},  # the default is not that of the recipe
        {"lr_step": 0, "lr_factor": None},
        {"optimizer": "adamw", "momentum": None},
        {"method_option": ("start_epoch=1", "end_epoch=52", "alpha=0.3")},
        {"recipe": None},
    ],
)
def test_the_command_of_a_fit_by_a_recipe_gives_its_config(made, monkeypatch, changes):
    run = read_results(made()).runs[2]
    config = replace(run.config, **{**find_recipe(RECIPE).settings, "recipe": RECIPE, **changes})
    replace(run.record, config=config).save(run.folder)
    seen: list[Any] = []
    monkeypatch.setattr("amr.fusion.fit.fit", lambda config, *_, **__: seen.append(config) or 1 / 0)
    command = commands(read_results(run.folder))[0]
    with pytest.raises(ZeroDivisionError):
        cli.run(arguments(command))
    assert asdict(replace(seen[0], out=None)) == asdict(replace(config, out=None))
    names = {name for name in find_recipe(RECIPE).settings if f"--{name.replace('_', '-')} " in command}
    wanted = {name for name, value in changes.items() if value is not None}
    assert names == ({*find_recipe(RECIPE).settings} if "recipe" in changes else wanted) - {"batch_size"}


@pytest.mark.parametrize(
    "changes",
    [
        {"recipe": RECIPE},
        {"recipe": RECIPE, "epochs": TrainConfig.epochs, "lr": 0.5, "amr_ratio": "1:1"},
        {"recipe": "kinetics-sounds/smv", "momentum": TrainConfig.momentum, "epochs": 3},
        {"momentum": 0.5, "optimizer": "sgd"},
        {"optimizer": "adam", "objective": "joint", "lr_step": 0},
    ],
)
def test_the_command_of_a_training_gives_its_config(monkeypatch, changes):
    config = TrainConfig(dataset="synthetic", **changes)
    typed = " ".join(_options(requested(config), ("out",), TrainConfig))
    seen: list[Any] = []
    monkeypatch.setattr("amr.console.training.check_request", lambda config: None)
    monkeypatch.setattr("amr.fusion.end_to_end.train.train_encoders", lambda config, *_: seen.append(config) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.run(["train-encoders", *shlex.split(typed)])
    assert requested(seen[0]) == requested(config)
    assert ("--recipe" in typed) == ("recipe" in changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"epochs": FrontierConfig.epochs, "method_option": ("alpha=0.3",)},
        {"optimizer": "adamw", "lr_step": 0, "head": "sum"},
    ],
)
def test_the_command_of_a_frontier_by_a_recipe_gives_its_config(monkeypatch, changes):
    config = FrontierConfig(recipe=RECIPE, cache="gone", **changes)
    seen: list[Any] = []
    monkeypatch.setattr("amr.console.frontier.find_cache", lambda *_: None)
    monkeypatch.setattr("amr.fusion.frontier.frontier.frontier", lambda config, *_, **__: seen.append(config) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.run(arguments(" ".join(_frontier({"config": _changed(config)}))))
    assert seen == [config]


@pytest.mark.parametrize("ratio", ["2:1", None])
def test_the_command_of_a_table_gives_its_config(made, monkeypatch, ratio):
    folder = made()
    (folder / "table.json").write_text("[]")
    seen: list[Any] = []
    monkeypatch.setattr("amr.fusion.sweep.table.make_table", lambda **request: seen.append(request) or 1 / 0)
    sweep = json.loads((folder / "sweep.json").read_text())
    sweep["amr_ratio"], sweep["base"]["adapter"] = list(dict.fromkeys([None, ratio])), "linear"
    (folder / "sweep.json").write_text(json.dumps(sweep))
    with pytest.raises(ZeroDivisionError):
        cli.run(arguments(commands(read_results(folder))[0]))
    config = seen[0]["config"]
    assert (config.amr_ratio, config.adapter, config.cache) == (ratio, "linear", "gone")
    assert (seen[0]["num_seeds"], seen[0]["with_amr"]) == (2, ratio is not None)


@pytest.mark.parametrize("end_to_end", [False, True])
@pytest.mark.parametrize("names", [("ogm", "umt", "mcr"), ("naive",), TABLE_1])
def test_the_command_of_a_table_names_its_methods_unless_they_are_the_default_ones(
    made, monkeypatch, names, end_to_end
):
    folder = made()
    (folder / "table.json").write_text("[]")
    results = read_results(folder)
    results.sweep.update(method=[*names], amr_ratio=[None, "1:1"])
    if end_to_end:
        base = requested(TrainConfig(dataset="synthetic", objective="joint", amr_weight=1.0))
        sweep = results.sweep | {"base": base, "attribution": ["grad_x_input"], "end_to_end": True}
        results = replace(results, training=base, sweep=sweep)
    seen: list[Any] = []
    function = "make_table_end_to_end" if end_to_end else "make_table"
    monkeypatch.setattr(f"amr.fusion.sweep.table.{function}", lambda **request: seen.append(request) or 1 / 0)
    monkeypatch.setattr(cli, "check_request", lambda config: None)
    command = commands(results)[0]
    with pytest.raises(ZeroDivisionError):
        cli.run(arguments(command))
    assert tuple(seen[0]["names"]) == (() if names == TABLE_1 else names)
    assert ("--method" in command) == (names != TABLE_1)


def test_the_command_of_a_table_of_another_task_names_no_methods(made):
    """Methods that need classes are left out of its default ones."""
    folder = made()
    (folder / "table.json").write_text("[]")
    results = read_results(folder)
    record = replace(results.record, config=replace(results.record.config, task="regression"))
    results = replace(results, runs=(replace(results.runs[0], record=record), *results.runs[1:]))
    results.sweep["method"] = [*default_methods(("audio", "video"), "regression")]
    assert "ogm-ge" not in results.sweep["method"]
    assert "--method" not in commands(results)[0]


def test_the_command_of_an_evaluation_gives_its_config(made, monkeypatch):
    folder = made(people=True)
    document = json.loads((folder / "evaluation.json").read_text())
    document["settings"] |= {"num_bootstrap": 500, "noise_draws": 5, "seed": 3}
    (folder / "evaluation.json").write_text(json.dumps(document))
    seen: list[Any] = []
    monkeypatch.setattr("amr.fusion.evaluate.evaluate.evaluate", lambda config, *rest: seen.append(config) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.run(arguments(commands(read_results(folder))[1]))
    config = seen[0]
    assert (config.run.name, config.bootstrap, config.noise_draws, config.seed) == (folder.name, 500, 5, 3)
    assert config.against == "people"
