"""Loggers of fits and sweeps: what they get, that no run depends on them, kills, folds and the folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import wandb

from amr.common.progress import Progress
from amr.fusion.config import FitConfig
from amr.fusion.fit import fit
from amr.fusion.loggers import loggers
from amr.fusion.loggers import wandb as wandb_logger
from amr.fusion.loggers.base import Point, TrackedRun
from amr.fusion.runs.read import damaged_file
from amr.fusion.sweep import sweep as sweeps
from amr.fusion.sweep.sweep import sweep
from amr.fusion.swept import SweepConfig

from .read_logs import of_csv, of_tensorboard, of_wandb, settings_of_tensorboard


def config(cache: Path, out: str, **changes: Any) -> FitConfig:
    return FitConfig(**{"cache": str(cache), "epochs": 4, "amr_ratio": "1:1", "out": out, **changes})


def files(run: Path) -> dict[str, str]:
    """Files of a run, with the folder's own name taken out."""
    names = ("config.json", "history.csv", "metrics.json", "predictions.csv", "weights.safetensors")
    return {name: (run / name).read_bytes().replace(str(run).encode(), b"RUN").hex() for name in names}


def points_of(history: pd.DataFrame) -> dict[str, list[tuple[int, float]]]:
    values = history.drop(columns=["epoch", "chosen"])
    return {name: list(zip(history["epoch"], values[name], strict=True)) for name in values}


def assert_close(points: list[tuple[int, float]], expected: list[tuple[int, float]]) -> None:
    """The same epochs, each once, and the same values up to the digits of history.csv."""
    assert [epoch for epoch, _ in points] == [epoch for epoch, _ in expected]
    assert [value for _, value in points] == pytest.approx([value for _, value in expected], rel=1e-5)


def flat(measures: dict[str, Any]) -> dict[str, float]:
    """Measures by the names that loggers show."""
    named = {("use" if name == "perceptual" else name): value for name, value in measures.items()}
    parts = {name: value.items() if isinstance(value, dict) else [("", value)] for name, value in named.items()}
    return {"_".join(filter(None, ("test", name, m))): v for name, each in parts.items() for m, v in each}


def test_a_logged_fit_is_the_same_run_and_every_logger_has_its_points(small_cache, workspace, offline_wandb):
    plain = fit(config(small_cache, "plain"))
    logged = fit(config(small_cache, "logged", logger="tensorboard, wandb,csv"))
    assert files(logged.run) == files(plain.run)
    assert logged.to_json()["config"] | {"out": ""} == plain.to_json()["config"] | {"out": ""}
    logs = logged.run / "logs"
    points = of_csv(logs / "history.csv")["logged"]
    history = pd.read_csv(logged.run / "history.csv")
    expected = points_of(history)
    test = {name: points.pop(name) for name in [*points] if name.startswith("test_")}
    assert {name: [(4, value)] for name, value in flat(logged.test or {}).items()} == test
    val_map = dict(points.pop("val_map"))
    assert val_map[history.loc[history["chosen"] == 1, "epoch"].item()] == pytest.approx(logged.val["map"])
    assert set(points) == set(expected)
    for name, values in expected.items():
        assert_close(points[name], values)
    both = points | {"val_map": [*val_map.items()]}
    curves = of_tensorboard(logs / "tensorboard")
    assert set(curves) == set(both | test)
    for name, values in (both | test).items():
        assert_close(curves[name], values)
    (run,) = of_wandb(workspace).values()
    assert run["points"] == both
    assert {name: [(4, run["summary"][name])] for name in test} == test
    assert (run["project"], run["group"], run["name"], run["exit_code"]) == ("amr", "", "logged", 0)
    settings = json.loads(json.dumps(logged.to_json()["config"]))
    assert {name: run["config"][name] for name in settings} == settings
    of_table = settings_of_tensorboard(logs / "tensorboard")
    assert set(of_table) == set(settings)
    assert (of_table["amr_ratio"], of_table["epochs"], of_table["hidden"]) == ("1:1", 4, 0)


def test_later_commands_take_the_folder_with_logs_and_nothing_foreign_in_them(small_cache, workspace):
    run = fit(config(small_cache, "a", logger="csv,tensorboard")).run
    assert damaged_file(run) is None
    again = fit(config(small_cache, "a", logger="csv")).run  # the same run: no --overwrite
    assert not (again / "logs" / "tensorboard").exists()
    assert {len(points) for points in of_csv(run / "logs" / "history.csv")["a"].values()} == {4, 1}
    (run / "logs" / "tensorboard").mkdir()
    (run / "logs" / "tensorboard" / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"which holds logs/tensorboard/notes\.txt"):
        fit(config(small_cache, "a"))
    (run / "logs" / "tensorboard" / "notes.txt").unlink()
    fit(config(small_cache, "a"))
    assert not (run / "logs").exists()


def test_folds_are_told_apart_and_test_measures_are_their_mean(small_cache, workspace):
    result = fit(config(small_cache, "f", folds=3, epochs=2, logger="csv,tensorboard"))
    points = of_csv(result.run / "logs" / "history.csv")["f"]
    for k in range(3):
        history = pd.read_csv(result.run / f"fold-{k}" / "history.csv")
        for name, values in points_of(history).items():
            assert_close(points[f"fold-{k}/{name}"], values)
    assert points["test_accuracy"] == [(2, result.test["accuracy"])]
    curves = of_tensorboard(result.run / "logs" / "tensorboard")
    assert {name: len(values) for name, values in curves.items()} == {n: len(v) for n, v in points.items()}
    assert damaged_file(result.run) is None


def test_every_method_is_logged_and_each_run_is_one_of_its_own(small_cache, workspace):
    swept = {"method": ("naive", "ume", "unimodal", "gradient-blending"), "amr_ratio": (None, "1:1")}
    plain, logged = (
        sweep(SweepConfig(config(small_cache, name, epochs=2, adapter="linear", logger=logger), **swept))
        for name, logger in (("plain", None), ("logged", "csv,tensorboard"))
    )
    runs = {path.name: path for path in (logged.folder / "runs").iterdir()}
    points = of_csv(logged.folder / "logs" / "history.csv")
    assert set(points) == set(runs)
    for name, run in runs.items():
        weights = (run / "weights.safetensors").read_bytes()
        assert weights == (plain.folder / "runs" / name / "weights.safetensors").read_bytes()
        history = points_of(pd.read_csv(run / "history.csv"))
        assert set(history) <= set(points[name])
        for value, expected in history.items():
            assert_close(points[name][value], expected)
        curves = of_tensorboard(logged.folder / "logs" / "tensorboard" / name)
        assert {value: len(each) for value, each in curves.items()} == {v: len(e) for v, e in points[name].items()}
        test = json.loads((run / "metrics.json").read_text())["test"]
        assert points[name]["test_accuracy"][0][1] == test["accuracy"]
    table = pd.read_csv(logged.folder / "logs" / "history.csv")
    assert set(table.loc[table["run"].str.contains("amr-1-1"), "amr_ratio"]) == {"1:1"}
    requests = [json.loads((each.folder / "sweep.json").read_text()) for each in (plain, logged)]
    assert requests[0] == requests[1]


class KillAfter(Progress):
    """A kill after some of the work."""

    def __init__(self, amount: float) -> None:
        self._left = amount

    def advance(self, amount: float, failures: int = 0) -> None:
        self._left -= amount
        if self._left < 0:
            raise KeyboardInterrupt


def test_a_killed_sweep_that_goes_on_has_no_point_twice(small_cache, workspace, offline_wandb, monkeypatch):
    def request(logger: str | None) -> SweepConfig:
        base = config(small_cache, "s", logger=logger)
        return SweepConfig(base, amr_ratio=(None, "1:1"), seed=(0, 1), group_size=1)

    monkeypatch.setattr(sweeps.torch, "get_num_threads", lambda: 2)
    every = "csv,tensorboard,wandb"
    with pytest.raises(KeyboardInterrupt):
        sweep(request(every), KillAfter(1.6))
    logs = workspace / "runs" / "s" / "logs"
    before = of_wandb(workspace)
    assert {run["exit_code"] for run in before.values()} <= {0, 1}
    assert 1 in {run["exit_code"] for run in before.values()}
    with (logs / "history.csv").open("a") as file:
        file.write("naive_con")  # cut off by the kill
    result = sweep(request(every))
    assert len(result.rows) == 8
    points, runs = of_csv(logs / "history.csv"), of_wandb(workspace)
    assert len(points) == len(runs) == 4
    for name, of_run in points.items():
        history = pd.read_csv(result.folder / "runs" / name / "history.csv")
        assert_close(of_run["train_loss"], points_of(history)["train_loss"])
        curves = of_tensorboard(logs / "tensorboard" / name)
        assert {n: [step for step, _ in values] for n, values in curves.items()} == {
            n: [epoch for epoch, _ in values] for n, values in of_run.items()
        }
        assert {n: v for n, v in of_run.items() if not n.startswith("test_")} == runs[name]["points"]
        assert (runs[name]["group"], runs[name]["exit_code"]) == ("s", 0)
    # the same sweep without loggers, or with others, goes on; another one clears the logs
    assert sweep(request(None)).rows == result.rows
    assert logs.is_dir()
    with pytest.raises(ValueError, match=r"a sweep with .*--seed 0,1"):
        sweep(SweepConfig(config(small_cache, "s", logger="csv")))
    sweep(SweepConfig(config(small_cache, "s")), overwrite=True)
    assert not logs.exists()


@pytest.mark.parametrize("name", ["csv", "tensorboard"])
def test_a_run_that_begins_again_has_the_points_that_it_is_given(tmp_path, name):
    run, other = (TrackedRun(each, {"lr": 0.1, "modalities": ["a", "b"], "ratio": None}) for each in ("x", "y"))
    logger = loggers[name](tmp_path, "group")
    for each in (run, other):
        logger.begin(each)
        for epoch in (1, 2, 3):
            logger.log(each.name, Point(epoch, {"loss": epoch / 4}))
    logger.end("y", Point(3, {"test_accuracy": 0.5}))
    later = loggers[name](tmp_path, "group")
    later.begin(run, [Point(epoch, {"loss": epoch / 8}, seconds=5.0) for epoch in (1, 2)])
    later.log("x", Point(3, {"loss": float("nan")}))
    later.end("x", None)

    def read(of: str) -> Any:
        if name == "csv":
            return of_csv(tmp_path / "history.csv")[of]
        return of_tensorboard(tmp_path / "tensorboard" / of)

    assert read("x")["loss"][:2] == [(1, 0.125), (2, 0.25)]
    assert [epoch for epoch, _ in read("x")["loss"]] == [1, 2, 3]
    assert read("y") == {"loss": [(1, 0.25), (2, 0.5), (3, 0.75)], "test_accuracy": [(3, 0.5)]}


def test_a_run_that_diverges_is_ended_without_measures(small_cache, workspace):
    base = config(small_cache, "d", optimizer="sgd", lr=1e30, amr_ratio=None, logger="csv,tensorboard")
    assert sweep(SweepConfig(base)).diverged == ("naive_concat_plain_seed0",)
    (points,) = of_csv(workspace / "runs" / "d" / "logs" / "history.csv").values()
    assert "train_loss" in points
    assert not [name for name in points if name.startswith("test_")]
    with pytest.raises(RuntimeError, match="training must stay finite"):
        fit(config(small_cache, "e", optimizer="sgd", lr=1e30, amr_ratio=None, logger="csv"))
    assert not (workspace / "runs" / "e").exists()


def test_what_cannot_be_used_is_refused_before_anything_is_trained(small_cache, workspace, monkeypatch):
    with pytest.raises(ValueError, match=r"--logger must be one of .*, got 'tensorbord'. Did you mean tensorboard\?"):
        config(small_cache, "x", logger="csv,tensorbord")
    assert config(small_cache, "x", logger=["csv", "wandb"]).logger == "csv,wandb"
    request = config(small_cache, "x", logger="wandb")
    monkeypatch.setenv("WANDB_MODE", "online")
    wandb.teardown()
    monkeypatch.setattr(wandb, "login", lambda **settings: False)
    for refused in (lambda: fit(request), lambda: sweep(SweepConfig(request))):
        with pytest.raises(ValueError, match=r"got no API key\. Run wandb login, or set WANDB_MODE=offline"):
            refused()
    monkeypatch.setattr(wandb_logger, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"Run pip install 'amr-fusion\[wandb\]'"):
        fit(request)
    assert not (workspace / "runs").exists()
    wandb.teardown()
