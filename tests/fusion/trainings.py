"""Small trainings of encoders, alone and jointly, and a sweep of them, in a workspace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from amr.common.files import checksummed, write_json
from amr.data_manifests.synthetic import SyntheticConfig, render
from amr.fusion.end_to_end.config import TrainConfig, TrainSweepConfig
from amr.fusion.end_to_end.train import train_encoders
from amr.fusion.sweep.trainings import sweep_trainings

ENCODERS = (
    "audio=timm:test_efficientnet,size=32,channels=1,weights=random",
    "video=timm:test_efficientnet,size=32,frames=2,weights=random",
)
SMALL = {"dataset": "synthetic", "encoder": ENCODERS, "epochs": 3, "batch_size": 8, "lr": 0.01, "workers": 0}


def make_trainings(home: Path) -> None:
    """Write encoders/alone, even and umt, and the sweep of trainings runs/table; AMR_HOME must be `home`."""
    render_clips(home)
    for name, settings in {
        "alone": {},
        "even": {"objective": "joint", "amr_ratio": "1:1"},
        "umt": {"objective": "joint", "method": "umt"},
    }.items():
        train(home / "encoders" / name, **settings)
    base = TrainConfig(**{**SMALL, "device": "cpu", "out": str(home / "runs" / "table"), "objective": "joint"})
    sweep_trainings(TrainSweepConfig(base, method=("naive", "unimodal"), amr_ratio=(None, "1:1")))


def render_clips(home: Path) -> None:
    """Render 36 clips of two classes: 18 train, 6 val, 12 test."""
    clips = SyntheticConfig(
        num_classes=2, num_clips=36, p_audio=1, train_share=0.5, val_share=1 / 6, duration_seconds=0.4, size=32
    )
    render(clips, home / "data" / "synthetic")


def train(folder: Path, **settings: Any) -> Path:
    """Train encoders on the clips of the workspace."""
    return train_encoders(TrainConfig(**{**SMALL, "device": "cpu", "out": str(folder), **settings})).folder


def set_record(run: Path, **changes: Any) -> None:
    """Change entries of a run's config.json; `config` is updated."""
    file = run / "config.json"
    saved = json.loads(file.read_text())
    saved["config"] |= changes.pop("config", {})
    with checksummed(run, file.name):
        write_json(file, saved | changes)
