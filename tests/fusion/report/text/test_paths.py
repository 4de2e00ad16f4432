from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amr.fusion.report.text.paths import as_named, shown_path, without_paths


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch) -> Path:
    """A workspace that is not the current folder."""
    monkeypatch.setenv("AMR_HOME", str(tmp_path / "work"))
    (tmp_path / "current").mkdir()
    monkeypatch.chdir(tmp_path / "current")
    return tmp_path / "work"


def test_paths_in_the_workspace_and_the_current_folder_are_relative(workspace, tmp_path):
    assert shown_path(workspace / "runs" / "a") == "runs/a"
    assert shown_path(tmp_path / "current" / "x" / "b.h5") == "x/b.h5"
    assert shown_path("x/b.h5") == "x/b.h5"
    assert shown_path(tmp_path / "elsewhere" / "b.h5") == "b.h5"
    assert shown_path("~/secret/b.h5") == "b.h5"


def test_commands_name_what_the_workspace_finds_by_name(workspace):
    assert as_named(workspace / "caches" / "a.b.h5") == "a.b"
    assert as_named(workspace / "runs" / "grid.1") == "grid.1"
    assert as_named(workspace / "runs" / "grid" / "runs" / "one") == "runs/grid/runs/one"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Run amr inspect /data/x/caches/a.h5, or again", "Run amr inspect a.h5, or again"),
        ("shares 0.60/0.40 for 0.25/0.75 on val", "shares 0.60/0.40 for 0.25/0.75 on val"),
        ("audio/video and AMR audio=1:video=1", "audio/video and AMR audio=1:video=1"),
        ("see https://example.org/a/b", "see https://example.org/a/b"),
        ("audio=hf:/models/mine/net", "audio=hf:net"),
        ("at ~/mine/a.h5; done", "at a.h5; done"),
    ],
)
def test_only_paths_of_a_machine_are_cut_to_names(text, shown):
    assert without_paths(text) == shown


def test_known_paths_may_have_blanks():
    assert without_paths("in /my data/a b.h5: 3", {"/my data/a b.h5": "a b.h5"}) == "in a b.h5: 3"


@given(st.lists(st.text("abc._-", min_size=1, max_size=6).filter(lambda part: part.strip(".")), min_size=2, max_size=5))
def test_no_folder_of_an_absolute_path_is_left(parts):
    path = os.sep + os.sep.join(parts)
    assert without_paths(f"see {path} now") == f"see {parts[-1]} now"
