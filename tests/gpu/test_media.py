"""Extraction and training of encoders on rendered clips, with --device cuda."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("av")
pytest.importorskip("timm")
from amr.data_manifests.synthetic import SyntheticConfig, render
from amr.extract.cache.reader import Cache
from amr.extract.config import ExtractConfig
from amr.extract.run import extract_embeddings
from amr.fusion.end_to_end.config import TrainConfig
from amr.fusion.end_to_end.train import train_encoders

pytestmark = pytest.mark.gpu
ENCODERS = (
    "audio=timm:test_efficientnet,size=32,channels=1,weights=random",
    "video=timm:test_efficientnet,size=32,frames=2,weights=random",
)


@pytest.fixture
def clips(workspace: Path) -> Path:
    """A workspace with 16 rendered clips."""
    small = SyntheticConfig(
        num_classes=2, num_clips=16, p_audio=1, train_share=0.5, val_share=0.25, duration_seconds=0.4, size=32
    )
    render(small, workspace / "data" / "synthetic")
    return workspace


def extracted(clips: Path, device: str, *encoders: str) -> dict[str, np.ndarray]:
    """Embeddings of the clips."""
    out = clips / f"{device}.h5"
    extract_embeddings(
        ExtractConfig(dataset="synthetic", encoder=encoders, out=str(out), device=device, workers=0, overwrite=True)
    )
    with Cache.open(out) as cache:
        assert all(cache.present(name).all() for name in cache.names)
        return {name: cache.embedding(name) for name in cache.names}


def assert_near(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    """Embeddings in float16 point where those in float32 do."""
    for name, value in theirs.items():
        cosine = torch.cosine_similarity(torch.from_numpy(ours[name]), torch.from_numpy(value), dim=-1)
        assert cosine.min() > 0.99, name


def test_extraction(clips, gpu):
    encoders = (*ENCODERS, "logmel=logmel", "frames=frames")
    assert_near(*(extracted(clips, device, *encoders) for device in ("cuda", "cpu")))


def test_a_training_goes_on_from_its_checkpoint(clips, gpu):
    def train(out: str, epochs: int) -> Path:
        settings = {"dataset": "synthetic", "encoder": ENCODERS, "batch_size": 8, "lr": 0.01, "workers": 0}
        settings |= {"objective": "joint", "amr_ratio": "1:1", "flip": True, "shift": 0.1}
        config = TrainConfig(**settings, device="cuda", epochs=epochs, out=str(clips / out))
        return train_encoders(config).folder

    whole = train("whole", 2)
    train("continued", 1)
    continued = train("continued", 2)
    assert (whole / "checkpoint.pt").is_file()
    ours, theirs = ([f"{m}=trained:{folder / m}" for m in ("audio", "video")] for folder in (continued, whole))
    on_gpu = extracted(clips, "cuda", *ours)
    assert_near(on_gpu, extracted(clips, "cuda", *theirs))
    assert_near(on_gpu, extracted(clips, "cpu", *ours))
