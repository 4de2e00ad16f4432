"""Fixtures that several tests share: the folder of real media, an empty workspace."""

from __future__ import annotations

import gc
import json
import os
import signal
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # a busy machine is slow
settings.load_profile("untimed")
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it for background jobs

# Tests decode in this process. A fork of it must not free what that left: FFmpeg's scalers would wait for threads that
# a fork does not have. Processes of the package itself begin with `begin_process`, which sees to that.
_collects: list[bool] = []
os.register_at_fork(
    before=lambda: (_collects.append(gc.isenabled()), gc.disable()),
    after_in_parent=lambda: gc.enable() if _collects.pop() else None,
)

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


class Calls:
    """Calls of a function, whichever process makes them."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def add(self, *values: object) -> None:
        with self.file.open("a") as file:
            file.write(json.dumps(values) + "\n")

    def all(self) -> list[tuple[object, ...]]:
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        return [tuple(json.loads(line)) for line in lines]


@pytest.fixture
def calls(tmp_path_factory: pytest.TempPathFactory) -> Calls:
    """A record of calls, which processes share."""
    return Calls(tmp_path_factory.mktemp("calls") / "calls.jsonl")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty workspace that $AMR_HOME points at."""
    monkeypatch.setenv("AMR_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def power_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty each file that replaces another without being synced, as a power cut soon after may."""
    synced: set[int] = set()
    fsync, replace = os.fsync, os.replace

    def noting(descriptor: int) -> None:
        fsync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    def cutting(source: Path, target: Path) -> None:
        if (number := os.stat(source).st_ino) not in synced:
            os.truncate(source, 0)
        synced.discard(number)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noting)
    monkeypatch.setattr(os, "replace", cutting)
