"""Folders that cannot be written to are refused before any work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from amr.common.files import check_ours, check_unlinked, check_writable, write_json


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
            ValueError, match=r"^RUN must be a place that can be written to, got .* Pass --out FOLDER\.$"
        ):
            check_writable(place, "RUN", "Pass --out FOLDER.")


def test_a_folder_that_cannot_be_looked_into_is_refused(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", refuse)  # as of a folder inside one without permissions
    check_writable(tmp_path / "new", "--out", "Pass another.")


def test_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"--out must be a place that can be written to, got .*\(Not a directory\)"):
        check_writable(tmp_path / "file", "--out", "Pass another.")


def test_files_of_other_programs_are_not_replaced(tmp_path):
    ours, theirs = tmp_path / "ours.html", tmp_path / "theirs.html"
    ours.write_text("made by amr report")
    theirs.write_text("my homepage")
    check_ours(tmp_path / "new.html", [b"amr report"], "--out")
    check_ours(ours, [b"amr report"], "--out")
    for file in (theirs, tmp_path):
        with pytest.raises(ValueError, match="--out must be new or written by the same command, got"):
            check_ours(file, [b"amr report"], "--out")


def test_nothing_is_written_through_a_link(tmp_path):
    (tmp_path / "mine").write_text("mine")
    folder = tmp_path / "theirs"
    (folder / "runs").mkdir(parents=True)
    check_unlinked(folder, "--out")
    for link in (folder / "metrics.json", folder / ".metrics.partial.json", folder / "runs" / "a"):
        link.symlink_to(tmp_path / "mine")
        with pytest.raises(ValueError, match="--out must hold no links"):
            check_unlinked(folder, "--out")
        if link.parent == folder:
            write_json(folder / "metrics.json", {})
            assert (folder / "metrics.json").read_text() == "{}\n"
            assert not (folder / "metrics.json").is_symlink()
        link.unlink(missing_ok=True)  # replaced, or removed
    assert (tmp_path / "mine").read_text() == "mine"
    check_unlinked(tmp_path / "absent", "--out")
    (tmp_path / "other disk").symlink_to(folder)
    check_unlinked(tmp_path / "other disk", "--out")
