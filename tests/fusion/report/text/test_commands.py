"""The printed command, run again, requests what made the folder."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, replace
from typing import Any

import pytest

from amr import cli
from amr.fusion.config import FitConfig, SweepConfig
from amr.fusion.report.read import read_results
from amr.fusion.report.text.commands import commands


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
