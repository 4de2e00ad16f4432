from __future__ import annotations

import pytest

from amr.fusion.report.config import ReportConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dirs": ()}, "DIR must be at least one folder"),
        ({"out": "results.csv"}, r"--out must end in .html, got 'results.csv'"),
        ({"clips": -1}, "--clips must be 0 or more, got -1"),
    ],
)
def test_wrong_options_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ReportConfig(**({"dirs": ("a",)} | changes))
