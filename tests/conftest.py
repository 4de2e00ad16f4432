"""What several tests share: where the real media are, one small torch thread pool."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent


def without(program: str, install: str) -> NoReturn:
    """Skips a test for want of a program that people need not have; fails it where CI=true, which must have all.

    Args:
        program: what is not there.
        install: what to type next.
    """
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"no {program}: {install}")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real media; a test that needs it is skipped where it is absent."""
    folder = Path(os.environ.get("AMR_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real media: {folder} is not there (set AMR_TEST_DATA)")
    return folder


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty workspace that $AMR_HOME points at."""
    monkeypatch.setenv("AMR_HOME", str(tmp_path))
    return tmp_path
