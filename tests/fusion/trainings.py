"""Small trainings of encoders, alone and jointly, and a sweep of them, in a workspace."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from amr.common.files import write_json
from amr.common.workspace import training_runs
from amr.data_manifests.synthetic import SyntheticConfig, render
from amr.fusion.end_to_end.config import TrainConfig
from amr.fusion.end_to_end.train import train_encoders

ENCODERS = (
    "audio=timm:test_efficientnet,size=32,channels=1,weights=random",
    "video=timm:test_efficientnet,size=32,frames=2,weights=random",
)
SMALL = {"dataset": "synthetic", "encoder": ENCODERS, "epochs": 3, "batch_size": 8, "lr": 0.01, "workers": 0}


def make_trainings(home: Path) -> None:
    """Write encoders/alone, even and umt, and the sweep of trainings runs/table; AMR_HOME must be `home`."""
    clips = SyntheticConfig(
        num_classes=2, num_clips=36, p_audio=1, train_share=0.5, val_share=1 / 6, duration_seconds=0.4, size=32
    )
    render(clips, home / "data" / "synthetic")
    for name, settings in {
        "alone": {},
        "even": {"objective": "joint", "amr_ratio": "1:1"},
        "umt": {"objective": "joint", "method": "umt"},
    }.items():
        train(home / "encoders" / name, **settings)
    make_sweep(home / "runs" / "table", home / "encoders")


def train(folder: Path, **settings: Any) -> Path:
    """Train encoders on the clips of the workspace."""
    return train_encoders(TrainConfig(**{**SMALL, "device": "cpu", "out": str(folder), **settings})).folder


def make_sweep(folder: Path, encoders: Path) -> None:
    """A sweep of the trainings `even` and `alone`, and of one without AMR."""
    shutil.copytree(encoders / "even", folder / "trainings" / "naive_amr_seed0")
    shutil.copytree(encoders / "alone", folder / "trainings" / "unimodal_seed0")
    train(folder / "trainings" / "naive_seed0", objective="joint")
    for training in sorted((folder / "trainings").iterdir()):
        for run in training_runs(training):
            modality = "" if run.parent == training else f"_{run.parent.name}"
            method, _, seed = training.name.rpartition("_")
            place = folder / "runs" / f"{method}{modality}_{seed}"
            shutil.copytree(run, place)
            set_record(place, cache=str(run.parent / "embeddings.h5"))
    base = json.loads((folder / "trainings" / "naive_seed0" / "config.json").read_text())["config"]
    lists = {"method": ["naive", "unimodal"], "amr_ratio": [None, "1:1"], "attribution": ["grad_x_input"], "seed": [0]}
    write_json(folder / "sweep.json", {"end_to_end": True, **lists, "base": base})


def set_record(run: Path, **changes: Any) -> None:
    """Change entries of a run's config.json; `config` is updated."""
    file = run / "config.json"
    saved = json.loads(file.read_text())
    saved["config"] |= changes.pop("config", {})
    write_json(file, saved | changes)
