"""A short form of the damage of results."""

from __future__ import annotations

import pytest

from ..child import Ended
from .runs import judged, run


def test_damaged_results_are_seen(tmp_path):
    for outcome in run(seed=0, scale=0.01, folder=tmp_path):
        assert outcome.lost == (), outcome.kind
        assert outcome.tries > 0


@pytest.mark.parametrize(
    ("command", "code", "stdout", "what"),
    [
        ("predict", 0, "0.5", "equal"),
        ("predict", 0, "0.6", "lost"),
        ("predict", 0, "0.6, damaged", "lost"),  # other numbers under exit status 0, whatever is said of them
        ("evaluate", 0, "damaged", "lost"),
        ("evaluate", 1, "", "refused"),
        ("evaluate", 3, "", "lost"),
        ("runs", 0, "damaged", "refused"),
        ("sweep", 0, "damaged, fitted again", "healed"),
        ("sweep", 0, "fitted again", "lost"),
    ],
)
def test_other_output_is_lost_unless_the_command_lists_or_repairs(command, code, stdout, what):
    assert judged((command,), Ended(code, stdout, "", 1.0), Ended(0, "0.5", "", 1.0))[0] == what
