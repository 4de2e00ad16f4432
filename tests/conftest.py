"""What several tests share: where the real media are, one small torch thread pool."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


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
