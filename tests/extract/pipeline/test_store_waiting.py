"""Processes that want the same store at the same time."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from amr.data_manifests.manifest import Manifest

from .conftest import NUM_CLIPS, Fake, Notes, Special, build, contents

FORK = multiprocessing.get_context("fork")
SECONDS = 60  # after which a test gives up
ENCODERS = {"a": Fake(Special())}


class Request(Notes):
    """A process that requests a store. It stops after each batch until `go_on` is set.

    Attributes:
        waits: Set when it says that it waits.
        wrote: Set after its first batch.
        go_on: Lets it continue.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        super().__init__()
        self.waits, self.wrote, self.go_on = FORK.Event(), FORK.Event(), FORK.Event()
        self._said = FORK.SimpleQueue()
        self.process = FORK.Process(target=self._run, args=(folder, manifest))
        self.process.start()

    def start(self, total: int, done: int) -> None:
        self._said.put(f"{done} of {total} clips are done")

    def advance(self, num_clips: int, num_failures: int) -> None:
        self.wrote.set()
        assert self.go_on.wait(SECONDS)

    def note(self, text: str) -> None:
        self._said.put(text)
        if "waiting" in text:
            self.waits.set()

    def end(self) -> list[str]:
        """What it said and how it ended, once it has."""
        self.process.join(SECONDS)
        is_alive = self.process.is_alive()
        self.process.kill()
        assert not is_alive
        said = []
        while not self._said.empty():
            said.append(self._said.get())
        return said

    def _run(self, folder: Path, manifest: Manifest) -> None:
        try:
            store = build(folder, manifest, ENCODERS, progress=self)
            self._said.put(f"{len(store.tensors['a'])} rows")
        except KeyboardInterrupt:
            self._said.put("interrupted")


@pytest.fixture
def request_store(sounds, tmp_path) -> Iterator[Callable[[], Request]]:
    """Function that starts a process which requests the store in `store/`."""
    requests: list[Request] = []

    def start() -> Request:
        requests.append(Request(tmp_path / "store", sounds))
        return requests[-1]

    yield start
    for each in requests:
        each.process.kill()
        each.process.join()


@pytest.fixture
def one_decodes_one_waits(request_store) -> tuple[Request, Request]:
    """A process that has written one batch, and one that waits for it."""
    first = request_store()
    assert first.wrote.wait(SECONDS)
    second = request_store()
    assert second.waits.wait(SECONDS)
    second.go_on.set()
    return first, second


def waiting(tmp_path: Path) -> str:
    return f"another process decodes into {tmp_path / 'store'}: waiting for it to end. --store names another folder."


def test_a_second_process_waits_and_opens_the_finished_store(one_decodes_one_waits, sounds, tmp_path):
    first, second = one_decodes_one_waits
    assert second.process.is_alive()
    first.go_on.set()
    assert first.end()[1:] == [f"0 of {NUM_CLIPS} clips are done", f"{NUM_CLIPS} rows"]
    assert second.end() == [waiting(tmp_path), f"{NUM_CLIPS} rows"]
    build(tmp_path / "whole", sounds, ENCODERS)
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")


def test_a_second_process_continues_when_the_first_is_killed(one_decodes_one_waits, sounds, tmp_path):
    first, second = one_decodes_one_waits
    first.process.kill()
    assert second.end() == [waiting(tmp_path), f"4 of {NUM_CLIPS} clips are done", f"{NUM_CLIPS} rows"]
    build(tmp_path / "whole", sounds, ENCODERS)
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")


def test_ctrl_c_ends_the_waiting(one_decodes_one_waits, tmp_path):
    first, second = one_decodes_one_waits
    assert second.process.pid is not None
    os.kill(second.process.pid, signal.SIGINT)
    assert second.end() == [waiting(tmp_path), "interrupted"]
    assert first.process.is_alive()
    first.go_on.set()
    assert first.end()[-1] == f"{NUM_CLIPS} rows"
