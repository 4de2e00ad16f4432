"""Small rendered clips, and encoders that train on them quickly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from amr.data_manifests.synthetic import SyntheticConfig, render
from amr.fusion.end_to_end.config import TrainConfig

ENCODERS = {
    "audio": "timm:test_efficientnet,size=32,channels=1,weights=random",
    "video": "timm:test_efficientnet,size=32,frames=2,weights=random",
}


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with 36 clips of two classes: 18 train, 6 val, 12 test. Stores are decoded only once."""
    folder = tmp_path_factory.mktemp("media")
    config = SyntheticConfig(
        num_classes=2, num_clips=36, p_audio=1, train_share=0.5, val_share=1 / 6, duration_seconds=0.4, size=32
    )
    render(config, folder / "data" / "synthetic")
    return folder


@pytest.fixture
def request_for(media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TrainConfig]:
    """Function that makes the config of a small training: `out` is its folder, the rest are fields of the config."""
    monkeypatch.setenv("AMR_HOME", str(media))

    def make(out: str, *names: str, **changes: Any) -> TrainConfig:
        encoder = tuple(f"{name}={ENCODERS[name]}" for name in names or ENCODERS)
        small = {"dataset": "synthetic", "encoder": encoder, "epochs": 2, "batch_size": 8, "lr": 0.01, "workers": 0}
        return TrainConfig(**{**small, "device": "cpu", "out": str(tmp_path / out), **changes})

    return make
