import faulthandler
import multiprocessing
import os
import pickle
import signal
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from amr.extract.pipeline import workers
from amr.extract.pipeline.load import ClipFiles, Loaded
from amr.extract.pipeline.workers import ClipLoader, Task

from .conftest import Fake, Special, write_sound

NUM_SOUNDS = 12


@pytest.fixture
def clips(tmp_path):
    for i in range(NUM_SOUNDS):
        write_sound(tmp_path / f"{i}.wav", 10 + i)
    return [ClipFiles({"audio": tmp_path / f"{i}.wav"}) for i in range(NUM_SOUNDS)]


def loader_of(clips, prepare, num_workers=2, **settings) -> ClipLoader:
    settings = {"batch_size": 4, "pin_memory": False} | settings
    return ClipLoader(clips, {"a": Fake(prepare)}, num_workers=num_workers, **settings)


def tasks() -> list[Task]:
    return [Task(row, ("a",)) for row in range(NUM_SOUNDS)]


def first_values(loaded) -> list[int]:
    return [round(float(clip.inputs["a"][0, 0]) * 128) for clip in loaded]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8, torch.int64, torch.bool])
def test_a_clip_comes_whole_from_another_process(dtype):
    loaded = Loaded({"a": torch.ones(3, 2).to(dtype), "b": torch.zeros(0, dtype=dtype)}, {"c": "broken"})
    back = pickle.loads(pickle.dumps(loaded))
    assert back.failures == {"c": "broken"}
    for name, value in loaded.inputs.items():
        assert back.inputs[name].dtype == dtype
        assert torch.equal(back.inputs[name], value)
        back.inputs[name].add_(0) if dtype != torch.bool else None  # writable


@pytest.mark.parametrize("num_workers", [0, 1, 2])
@pytest.mark.parametrize("pin_memory", [False, True])
def test_clips_come_in_order_and_all_processes_end(clips, monkeypatch, num_workers, pin_memory):
    monkeypatch.setattr(Loaded, "pin_memory", lambda self: self)  # which needs a GPU
    loader = loader_of(clips, Special(), num_workers, pin_memory=pin_memory)
    assert first_values(loader.load(tasks())) == list(range(10, 10 + NUM_SOUNDS))
    with closing(loader.load(tasks())) as loaded:
        assert first_values([next(loaded)]) == [10]
    until = time.monotonic() + 30
    while (multiprocessing.active_children() or pinning()) and time.monotonic() < until:
        time.sleep(0.01)
    assert (multiprocessing.active_children(), pinning()) == ([], [])


def pinning() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "clip-loader"]


def test_an_error_of_pinning_is_raised(clips, monkeypatch):
    def full(loaded):
        raise RuntimeError("no memory to pin")

    monkeypatch.setattr(Loaded, "pin_memory", full)
    with pytest.raises(RuntimeError, match="no memory to pin"):
        list(loader_of(clips, Special(), pin_memory=True).load(tasks()))


class Once(Special):
    """Sends its process a signal at one clip, the first time."""

    def __init__(self, folder: Path, signum: int) -> None:
        self.mark, self.signum = folder / "mark", signum

    def __call__(self, media: np.ndarray) -> torch.Tensor:
        if media[0] == 15 / 128 and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), self.signum)
        return super().__call__(media)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_worker_that_something_else_kills_or_stops_costs_no_clip(clips, monkeypatch, tmp_path, signum, num_workers):
    monkeypatch.setattr(workers, "SECONDS_TO_START", 2.0)
    loader = loader_of(clips, Once(tmp_path, signum), num_workers, clip_timeout=1.0)
    assert first_values(loader.load(tasks())) == list(range(10, 10 + NUM_SOUNDS))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_timer_of_the_caller_hinders_no_worker(clips, num_workers):
    faulthandler.dump_traceback_later(1000)  # a forked process that asks for another one waits for ever
    try:
        loaded = loader_of(clips, Special(), num_workers, clip_timeout=20.0).load(tasks())
        assert first_values(loaded) == list(range(10, 10 + NUM_SOUNDS))
    finally:
        faulthandler.cancel_dump_traceback_later()


def test_a_start_that_fails_leaves_no_process(clips, monkeypatch):
    monkeypatch.setattr(workers, "available_cores", lambda: 2)
    real, started = workers.start_process, []

    def full(*arguments):
        if started:
            raise BlockingIOError("no process left")
        started.append(real(*arguments))
        return started[-1]

    monkeypatch.setattr(workers, "start_process", full)
    with pytest.raises(BlockingIOError):
        list(loader_of(clips, Special()).load(tasks()))
    assert [process.exitcode for process in started] == [-signal.SIGKILL]


def test_an_interrupt_ends_the_modalities_that_are_loaded_apart(clips, monkeypatch):
    calls = []

    class Interrupted(workers.Call):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            calls.append(self)

        def result(self, limit_seconds):
            raise KeyboardInterrupt

    monkeypatch.setattr(workers, "Call", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        loader_of(clips, Special())._apart(Task(0, ("a",)))
    assert [call._process.exitcode for call in calls] == [-signal.SIGKILL]


def test_an_absurd_number_of_clips_ahead_does_not_block(clips):
    many = [Task(i % NUM_SOUNDS, ("a",)) for i in range(3000)]
    loader = loader_of(clips, Special(), 1, batch_size=10**6)
    assert sum(1 for _ in loader.load(many)) == 3000
