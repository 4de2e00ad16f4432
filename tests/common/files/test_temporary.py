from __future__ import annotations

import os
import tempfile

import pytest

from amr.common.files import temporary
from amr.common.files.temporary import open_temporary, temporary_folder


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """A folder in the place of /var/tmp, while TMPDIR is not set."""
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(temporary, "DISK_FOLDER", str(tmp_path / "disk"))
    return tmp_path / "disk"


def test_large_files_go_to_tmpdir_else_to_a_disk_else_where_python_has_them(disk, tmp_path, monkeypatch):
    assert temporary_folder() == tempfile.gettempdir()
    disk.mkdir()
    assert temporary_folder() == str(disk)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    assert temporary_folder() == str(disk)
    (tmp_path / "scratch").mkdir()
    assert temporary_folder() == str(tmp_path / "scratch")
    monkeypatch.setenv("TMPDIR", "")
    assert temporary_folder() == str(disk)


def test_a_temporary_file_lies_in_its_folder_without_a_name(disk):
    disk.mkdir()
    with open_temporary() as file:
        file.write(b"x" * 5000)
        file.flush()
        assert os.fstat(file.fileno()).st_dev == disk.stat().st_dev
        assert not list(disk.iterdir())
