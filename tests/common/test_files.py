"""Folders that cannot be written to are refused before any work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from amr.common.files import check_writable


def test_a_new_folder_in_one_that_can_be_written_to_is_accepted_and_not_made(tmp_path):
    check_writable(tmp_path / "a" / "b", "--out", "Pass another.")
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_folder_is_refused(tmp_path):
    folder = tmp_path / "sealed"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):  # as root, who is only stopped by file systems such as /proc
        folder = Path("/proc/self")
    for place in (folder, folder / "new"):
        with pytest.raises(
            ValueError, match=r"^RUN must be a folder that can be written to, got .* Pass --out FOLDER\.$"
        ):
            check_writable(place, "RUN", "Pass --out FOLDER.")


def test_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"--out must be a folder .*\(Not a directory\)"):
        check_writable(tmp_path / "file", "--out", "Pass another.")
