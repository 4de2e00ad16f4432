from __future__ import annotations

import math

import pytest

from amr.common.progress import Progress
from amr.fusion.train import reporter
from amr.fusion.train.reporter import Reporter


class Lines(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A list of one number, the current time."""
    now = [1000.0]
    monkeypatch.setattr(reporter.time, "monotonic", lambda: now[0])
    return now


def values(accuracy: float) -> dict[str, float]:
    return {"train_loss": 0.5, "val_accuracy": accuracy}


def test_the_remaining_time_is_estimated_from_epochs_since_the_resume(clock):
    progress = Lines()
    report = Reporter("audio", 10, progress)
    clock[0] += 500  # teachers are trained
    report.begin([values(0.9), values(0.4), values(0.6), values(0.5)])
    for accuracy in (0.7, 0.95):
        clock[0] += 30
        report.epoch(values(accuracy))
    assert progress.lines == [
        "audio: continues after epoch 4/10",
        "audio: epoch 5/10, loss 0.500, val accuracy 0.700 (best 0.900), 30.0 s per epoch, 2.5 min left",
        "audio: epoch 6/10, loss 0.500, val accuracy 0.950 (best 0.950), 30.0 s per epoch, 2.0 min left",
    ]


def test_without_val_clips_the_line_has_no_val_accuracy(clock):
    progress = Lines()
    report = Reporter("joint", 2, progress)
    report.begin([])
    clock[0] += 6
    report.epoch(values(math.nan))
    assert progress.lines == ["joint: epoch 1/2, loss 0.500, 6.0 s per epoch, 0.1 min left"]
