"""A GPU for each test: the machine's own, or one that is not there (`fake.py`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from amr.fusion.data.clips import Clips
from amr.fusion.train.step import OptimizerStep
from amr.fusion.train.trainer import MakeStep, TrainOnBatch, plain_step

from .fake import DEVICE, FakeGPU, fake_gpu

HAS_GPU = torch.cuda.is_available()


@dataclass(frozen=True)
class GPU:
    """The GPU of a test.

    Args:
        fake: The GPU that is not there; None for a real one.
    """

    fake: FakeGPU | None = None

    @contextmanager
    def never_waits(self) -> Iterator[None]:
        """Raise AssertionError, or on a real GPU RuntimeError, if the host waits for the GPU."""
        if self.fake is None:
            torch.cuda.set_sync_debug_mode("error")
            try:
                yield
            finally:
                torch.cuda.set_sync_debug_mode("default")
            return
        with self.fake.watching():
            yield
        assert "\n".join(self.fake.waits) == ""

    def clips(self, clips: Clips) -> Clips:
        """Clips on the GPU."""
        embeddings = {m: e.to(DEVICE) for m, e in clips.embeddings.items()}
        return Clips(embeddings, clips.present.to(DEVICE), clips.target.to(DEVICE))

    def assert_near(self, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
        """Check that tensors are those of the CPU. A real GPU sums in another order, which Adam magnifies."""
        tolerance = {"rtol": 1e-2, "atol": 3e-3} if self.fake is None else {"rtol": 1e-5, "atol": 1e-6}
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert torch.allclose(ours[name].cpu(), value.cpu(), equal_nan=True, **tolerance), name

    def assert_alike(self, ours: Any, theirs: Any) -> None:
        """Check that documents are the same: a real GPU may decide a clip or two otherwise."""
        _assert_alike(ours, theirs, 0.1 if self.fake is None else 1e-3)


def watched_step(gpu: GPU | None) -> MakeStep:
    """Factory of plain steps, gathering included, that must not wait for the GPU."""

    def make(step: OptimizerStep, train: Clips) -> TrainOnBatch:
        plain = plain_step(step, train)

        def on_batch(index: Tensor) -> Tensor:
            with nullcontext() if gpu is None else gpu.never_waits():
                return plain(index)

        return on_batch

    return make


def _assert_alike(ours: Any, theirs: Any, tolerance: float, where: str = "") -> None:
    """Compare documents: numbers within a tolerance, all else to the letter, without paths and devices."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for key in theirs.keys() - {"device", "run", "out", "picture", "predict", "folder"}:
            _assert_alike(ours[key], theirs[key], tolerance, f"{where}.{key}")
    elif isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs), where
        for i, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            _assert_alike(one, other, tolerance, f"{where}[{i}]")
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, abs=tolerance, nan_ok=True), where
    else:
        assert ours == theirs, where


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[GPU]:
    """The GPU."""
    if HAS_GPU:
        yield GPU()
        return
    with fake_gpu(monkeypatch) as fake:
        yield GPU(fake)
