"""Commands that are given three times at once leave what one leaves."""

import pytest

from .commands import CASES
from .writers import NAMES, Writers


@pytest.mark.parametrize("name", NAMES)
def test_commands_at_once_leave_what_one_leaves(name, tmp_path):
    (case,) = (case for case in CASES if case.name == name)
    writers = Writers(case, tmp_path)
    assert writers.lost(3) == []  # make torture starts two, too
