"""Fixtures that several tests share: the folder of real media, an empty workspace."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent


def without(program: str, install: str) -> NoReturn:
    """Skip a test that lacks an optional program; fail it if CI=true, because CI has every program.

    Args:
        program: Name of the missing program.
        install: Command that installs it.
    """
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"no {program}: {install}")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real media; a test that needs it is skipped if it is absent."""
    folder = Path(os.environ.get("AMR_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real media: {folder} does not exist (set AMR_TEST_DATA)")
    return folder


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty workspace that $AMR_HOME points at."""
    monkeypatch.setenv("AMR_HOME", str(tmp_path))
    return tmp_path
