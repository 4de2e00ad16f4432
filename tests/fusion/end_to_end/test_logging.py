"""Loggers of trained encoders: a killed training that goes on has each point once, and is the same training."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from amr.fusion.end_to_end.folder import foreign_path
from amr.fusion.end_to_end.train import train_encoders
from amr.fusion.loggers.tensorboard import TensorBoardLogger

from ..loggers.read_logs import of_csv, of_tensorboard, of_wandb, settings_of_tensorboard
from .test_train import KillAfter, Killed, assert_same_training


def test_a_killed_training_logs_each_epoch_once_and_is_the_same_training(request_for, media, offline_wandb):
    joint = {"objective": "joint", "amr_ratio": "1:1", "epochs": 3}
    plain = train_encoders(request_for("plain", **joint))
    logged = request_for("logged", **joint, logger="csv,wandb,tensorboard")
    for epoch, seconds_between in ((1, 0), (2, 1e9)):  # killed the second time after an epoch that no checkpoint has
        with pytest.raises(Killed):
            train_encoders(logged, KillAfter(f"naive: epoch {epoch}"), seconds_between=seconds_between)
    other = request_for("logged", **joint, logger="csv")  # the loggers may change
    result = train_encoders(logged)
    assert train_encoders(other) == result
    assert_same_training(plain, result)
    folder = result.folder
    assert foreign_path(folder) is None
    saved = [json.loads((each / "config.json").read_text()) for each in (folder, plain.folder)]
    assert saved[0] == saved[1]
    (points,) = of_csv(folder / "logs" / "history.csv").values()
    for values in points["train_loss"], points["val_map"]:
        assert [epoch for epoch, _ in values] == [1, 2, 3]
    history = pd.read_csv(folder / "history.csv")
    chosen = history.loc[history["chosen"] == 1, "epoch"].item()
    assert dict(points["val_accuracy"])[chosen] == pytest.approx(history["val_accuracy"][chosen - 1], rel=1e-5)
    curves = of_tensorboard(folder / "tensorboard")
    assert {name: [step for step, _ in values] for name, values in curves.items()} == {
        name: [epoch for epoch, _ in values] for name, values in points.items()
    }
    assert points["test_accuracy"] == [(3, result.test["accuracy"])]
    (run,) = of_wandb(media).values()
    assert run["points"] == {name: values for name, values in points.items() if not name.startswith("test_")}
    assert (run["name"], run["group"], run["exit_code"]) == ("logged", "logged", 0)
    assert run["config"]["amr_ratio"] == settings_of_tensorboard(folder / "tensorboard")["amr_ratio"] == "1:1"


def test_a_teacher_that_was_killed_before_its_test_measures_were_logged_logs_them(request_for, monkeypatch):
    def killed(*_: object) -> None:
        raise Killed

    config = request_for("umt", objective="joint", method="umt")
    with monkeypatch.context() as patched:
        patched.setattr(TensorBoardLogger, "end", killed)
        with pytest.raises(Killed):
            train_encoders(config)
    folder = train_encoders(config).folder
    for training in (folder / "teachers" / "audio", folder / "teachers" / "video", folder):
        curves = of_tensorboard(training / "tensorboard")
        assert [step for step, _ in curves["test_accuracy"]] == [len(curves["val_loss"])]


def test_checkpoints_without_points_give_those_of_their_history(request_for):
    alone = request_for("alone", "audio", logger="csv")
    with pytest.raises(Killed):
        train_encoders(alone, KillAfter("audio: epoch 1"), seconds_between=0)
    (file,) = Path(str(alone.out)).rglob("checkpoint.pt")
    saved = torch.load(file, weights_only=True)
    del saved["points"]
    torch.save(saved, file)
    (file.parent / "SHA256SUMS").unlink()
    folder = train_encoders(alone).folder
    points = of_csv(folder / "logs" / "history.csv")["alone/audio"]
    assert [epoch for epoch, _ in points["val_loss"]] == [1, 2]
    assert [epoch for epoch, _ in points["val_map"]] == [2]
