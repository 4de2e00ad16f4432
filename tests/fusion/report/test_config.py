from __future__ import annotations

from pathlib import Path

import numpy as np
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


def test_one_folder_paths_and_numpy_numbers_are_accepted():
    assert ReportConfig(dirs="runs/ratios") == ReportConfig(dirs=("runs/ratios",))
    config = ReportConfig(dirs=[Path("a"), "b"], out=Path("c/page.html"), clips=np.int64(3))
    assert config == ReportConfig(dirs=("a", "b"), out="c/page.html", clips=3)
