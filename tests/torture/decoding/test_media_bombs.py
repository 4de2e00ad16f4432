"""Peak memory of a worker over the bombs that are written in a moment."""

from __future__ import annotations

import pytest

from .bombs import BOMBS
from .media_bombs import Prepares, both, measure, problem_of

SLOW = ("13_hours.wav", "2_hours.flac", "8k.mp4", "5790x5790.png", "20000x20000.tif", "30000x30000.png")
EMBEDDED = ("8_channels.wav", "24_channels.wav", "64_channels.wav", "65535x65535.mp4")


@pytest.fixture(scope="module")
def prepares() -> Prepares:
    return Prepares.every_kind()


@pytest.mark.parametrize("name", [name for name in BOMBS if name not in SLOW])
def test_a_bomb_is_embedded_or_fails_within_bounds(tmp_path, prepares, name):
    BOMBS[name](tmp_path / name)
    measured = measure(both(tmp_path / name), prepares)
    assert problem_of(measured, prepares) == ""
    assert bool(measured.loaded.failures) == (name not in EMBEDDED)


@pytest.mark.parametrize("interval", [(1e13, None), (None, 1e305), (1e300, 1e305)])
def test_an_interval_beyond_all_time(tmp_path, prepares, interval):
    BOMBS["8_channels.wav"](tmp_path / "clip.wav")
    measured = measure(both(tmp_path / "clip.wav", start_seconds=interval[0], end_seconds=interval[1]), prepares)
    assert problem_of(measured, prepares) == ""
    assert ("audio" in measured.loaded.inputs) == (interval[0] is None)
    for reason in measured.loaded.failures.values():
        assert reason == "no sound could be decoded in the clip's interval"
