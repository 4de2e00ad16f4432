"""Sounds that are quick to decode, and encoders that only prepare."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from amr.common.progress import Progress
from amr.data_manifests.manifest import Manifest, read_manifest
from amr.extract.encoders import Encoder, Prepare
from amr.extract.pipeline.store import Store, open_store

NUM_CLIPS = 11


class Special(Prepare):
    """The first samples; some values stand for failures."""

    sample_rate_hz = 8000

    def __call__(self, media: np.ndarray) -> torch.Tensor:
        value = round(float(media[0]) * 128)
        if value == 3:
            raise ValueError("too quiet\nand more")
        wrong = {4: float("nan"), 5: 1e6}.get(value)
        return torch.full((2, 3), float(media[0]) if wrong is None else wrong)


class Fake(Encoder):
    """An encoder that only prepares."""

    embed_dim, max_steps = 4, None

    def __init__(self, prepare: Prepare, spec: str = "fake", modality: str = "audio") -> None:
        self.spec, self.prepare, self.preprocessing, self.modality = spec, prepare, {"spec": spec}, modality

    def embed(self, inputs):
        raise NotImplementedError


class Notes(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.total = self.done = self.advanced = self.failures = 0

    def start(self, total: int, done: int) -> None:
        self.total, self.done = total, done

    def advance(self, num_clips: int, num_failures: int) -> None:
        self.advanced += num_clips
        self.failures += num_failures

    def note(self, text: str) -> None:
        self.notes.append(text)


def build(folder: Path, manifest: Manifest, encoders: dict[str, Encoder], **changes) -> Store:
    defaults = {"workers": 0, "batch_size": 4, "progress": Progress(), "max_seconds": None}
    return open_store(folder, manifest, encoders, **(defaults | changes))


def write_sound(path: Path, value: int, num_samples: int = 400) -> None:
    write_samples(path, np.full(num_samples, value * 256), rate_hz=8000)


def write_samples(path: Path, values: np.ndarray, rate_hz: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate_hz, 0, "NONE", ""))
        file.writeframes(values.astype("<i2").tobytes())


@pytest.fixture
def sounds(tmp_path) -> Manifest:
    """Sounds of 400, 410, 420, ... samples; clip i holds the value i / 128."""
    for i in range(NUM_CLIPS):
        write_sound(tmp_path / f"{i}.wav", i, 400 + 10 * i)
    (tmp_path / "clips.csv").write_text("\n".join(["path,label", *(f"{i}.wav,x" for i in range(NUM_CLIPS))]))
    return read_manifest(tmp_path / "clips.csv")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
