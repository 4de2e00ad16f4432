"""The message of a disk that is too small, and the place that is asked."""

import shutil
from collections import namedtuple

import pytest

from amr.common.files import check_space, in_units

Usage = namedtuple("Usage", "total used free")


def test_both_numbers_are_said(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or Usage(0, 0, 3 * 2**20))
    check_space(tmp_path, 3 * 2**20, "the cache")
    folder = tmp_path / "new" / "deeper"
    with pytest.raises(ValueError, match=r"^the cache must fit on the disk, got 3\.0 MiB for 3\.0 MiB free at '.*deep"):
        check_space(folder, 3 * 2**20 + 1, "the cache", "Try less.")
    assert asked == [tmp_path, tmp_path]
    assert not folder.exists()


def test_the_disk_of_the_folder_has_less_than_everything(tmp_path):
    with pytest.raises(ValueError, match=r"got 8388608\.0 TiB for .* Free some space, or choose another disk\.$"):
        check_space(tmp_path, 2**63, "it")


@pytest.mark.parametrize(("number", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB")])
def test_units(number, text):
    assert in_units(number) == text
