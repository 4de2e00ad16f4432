from __future__ import annotations

import math

import pytest

from amr.common.progress import Progress
from amr.fusion.end_to_end import reporter
from amr.fusion.end_to_end.reporter import Reporter


class Lines(Progress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """One number, the time."""
    now = [1000.0]
    monkeypatch.setattr(reporter.time, "monotonic", lambda: now[0])
    return now


def values(accuracy: float) -> dict[str, float]:
    return {"train_loss": 0.5, "val_accuracy": accuracy}


def test_the_time_that_is_left_is_that_of_epochs_since_it_went_on(clock):
    lines = Lines()
    report = Reporter("audio", 10, lines)
    clock[0] += 500  # teachers are trained
    report.begin([values(0.9), values(0.4), values(0.6), values(0.5)])
    for accuracy in (0.7, 0.95):
        clock[0] += 30
        report.epoch(values(accuracy))
    assert lines.said == [
        "audio: goes on behind epoch 4/10",
        "audio: epoch 5/10, loss 0.500, val accuracy 0.700 (best 0.900), 30.0 s an epoch, 2.5 min left",
        "audio: epoch 6/10, loss 0.500, val accuracy 0.950 (best 0.950), 30.0 s an epoch, 2.0 min left",
    ]


def test_without_val_clips_nothing_is_said_of_them(clock):
    lines = Lines()
    report = Reporter("joint", 2, lines)
    report.begin([])
    clock[0] += 6
    report.epoch(values(math.nan))
    assert lines.said == ["joint: epoch 1/2, loss 0.500, 6.0 s an epoch, 0.1 min left"]
