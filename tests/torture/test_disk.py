from __future__ import annotations

import pytest

from . import disk


@pytest.mark.parametrize("case", disk.CASES[:4], ids=str)
def test_a_full_disk_is_said_and_the_command_goes_on(case, tmp_path):
    try:
        outcome = disk.tried(case, 2, tmp_path)
    except disk.NoMount as error:
        pytest.skip(f"no disk can be mounted: {error}")
    assert outcome.lost == ()
    assert outcome.note == "2 met a full disk"
