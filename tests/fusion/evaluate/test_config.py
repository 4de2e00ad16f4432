from pathlib import Path

import pytest

from amr.fusion.evaluate.config import EvaluateConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bootstrap": -1}, "--bootstrap must be 0"),
        ({"noise_draws": 0}, "--noise-draws must be 1 or more, got 0"),
        ({"seed": -1}, "--seed must be 0 or more"),
        ({"against": "persons"}, "--against must be"),
        ({"people": "voice=audio"}, "--people must be used with --against people"),
        ({"device": "tpu"}, "--device must be"),
    ],
)
def test_wrong_requests_are_refused_before_anything_is_read(changes, message):
    with pytest.raises(ValueError, match=message):
        EvaluateConfig(Path("run"), **changes)
