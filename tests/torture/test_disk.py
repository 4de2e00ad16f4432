from __future__ import annotations

import pytest

from . import disk


@pytest.mark.parametrize("line", [disk.IMPORT, disk.FIT], ids=["import", "fit"])
def test_a_full_disk_is_said_and_the_command_goes_on(line, tmp_path):
    before = () if line == disk.IMPORT else (disk.IMPORT,)
    try:
        tries, _, lost = disk._tried(line, before, 0, 2, tmp_path)
    except disk.NoMount as error:
        pytest.skip(f"no disk can be mounted: {error}")
    assert lost == []
    assert tries == 2
