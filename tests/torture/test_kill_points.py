"""A command that is killed before any change of the file system, given again, ends as if it had not been killed."""

import zlib

import pytest

from .changes import Changes
from .child import run_child
from .commands import CASES
from .kill_points import Points


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_killed_command_given_again_ends_as_one_that_was_not(case, tmp_path):
    points = Points(case, tmp_path)
    assert points.unexplained() == []
    numbers = points.few(4, seed=zlib.crc32(case.name.encode()))  # make torture kills before a change of every kind
    assert [text for number in numbers if (text := points.lost(number)) is not None] == []


def test_changes_are_counted_and_the_process_dies_before_one(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()

    def change():
        Changes(folder, tmp_path / "log", kill_before=4)
        (folder / "a").write_text("1")
        (folder / "a").read_text()
        (folder / "none").unlink(missing_ok=True)
        (tmp_path / "elsewhere").write_text("1")
        (folder / "a").rename(folder / "b")
        (folder / "c").mkdir()
        (folder / "b").unlink()

    assert run_child(change).code == -9
    assert (tmp_path / "log").read_text().splitlines() == ["open a", "rename a b", "mkdir c", "remove b"]
    assert sorted(path.name for path in folder.iterdir()) == ["b", "c"]
