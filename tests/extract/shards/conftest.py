"""Clips, and a listener of progress, that the tests of shards share."""

from __future__ import annotations

from pathlib import Path

import pytest

from amr.common.progress import Progress
from amr.data_manifests.synthetic import SyntheticConfig, render

ENCODERS = ("audio=logmel", "net=timm:test_efficientnet,modality=video,size=32,frames=2,weights=random")
NUM_CLIPS = 15


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    return render_clips(tmp_path_factory.mktemp("clips"), NUM_CLIPS, absent=10)


def render_clips(folder: Path, num_clips: int, absent: int) -> Path:
    """Manifest of short clips, of which number 4 is broken and one has no file."""
    config = SyntheticConfig(
        num_classes=2, num_clips=num_clips, train_share=1 / 2, val_share=1 / 4, duration_seconds=0.2, size=32
    )
    render(config, folder)
    (folder / "clips" / "00004.mp4").write_bytes(b"broken")
    (folder / "clips" / f"{absent:05}.mp4").unlink()
    return folder / "manifest.csv"


class Seen(Progress):
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    def start(self, total: float, done: float = 0, unit: str = "clips") -> None:
        self.events.append(("start", total, done, unit))

    def advance(self, amount: float, failures: int = 0) -> None:
        self.events.append(("advance", amount, failures))

    def note(self, text: str) -> None:
        self.events.append(("note", text))
