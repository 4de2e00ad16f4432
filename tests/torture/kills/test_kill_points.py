"""A command that is killed before any change of the file system, given again, ends as if it had not been killed."""

import importlib.util
import zlib

import pytest

from amr.fusion.frontier import settings

from ...conftest import without
from ..child import run_child
from .changes import Changes, unexplained
from .commands import CASES, ON_RAY
from .kill_points import NOT_KILLED, Points


@pytest.fixture(autouse=True)
def few_settings(monkeypatch):
    """Few settings of a frontier; commands are forks of this process."""
    for name in ("WEIGHTS", "NOISES", "DECAYS"):
        monkeypatch.setattr(settings, name, getattr(settings, name)[:1])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_killed_command_given_again_ends_as_one_that_was_not(case, tmp_path):
    check(case, tmp_path)


@pytest.mark.ray
def test_a_killed_command_on_a_cluster_does_too(tmp_path):
    if importlib.util.find_spec("ray") is None:
        without("ray", "pip install 'amr-fusion[ray]'")
    check(ON_RAY, tmp_path)


def check(case, tmp_path):
    points = Points(case, tmp_path)
    assert points.unexplained() == []
    numbers = points.few(seed=zlib.crc32(case.name.encode()))  # make torture kills before nearly all changes
    found = [points.lost(number) for number in numbers]
    assert [text for text in found if text not in ("", NOT_KILLED)] == []
    assert found.count(NOT_KILLED) < len(found)


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


def test_a_change_explains_its_paths_and_a_folder_that_is_moved_what_is_below():
    changes = ["mkdir runs", "mkdir runs/.new", "open runs/.new/a", "rename runs/.new runs/new"]
    assert unexplained(["runs", "runs/new", "runs/new/a"], changes) == []
    assert unexplained(["runs", "runs/other", "runs/other/a"], changes) == ["runs/other", "runs/other/a"]


def test_a_command_that_ends_before_the_change_is_not_killed(tmp_path):
    (case,) = (case for case in CASES if case.name == "predict")
    points = Points(case, tmp_path)
    points.changes.append("open never")
    assert points.lost(len(points.changes)) == NOT_KILLED
    assert points.lost(1) == ""
