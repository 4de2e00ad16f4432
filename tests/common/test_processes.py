from __future__ import annotations

import ctypes
import faulthandler
import gc
import os
import pickle
import signal
import threading
import time
import traceback
from multiprocessing import util

import numpy as np
import pytest
from av import VideoFrame

from amr.common import processes
from amr.common.processes import (
    CONTEXT,
    Call,
    TooLong,
    Unfinished,
    begin_process,
    call_apart,
    first_line,
    portable,
    start_process,
)


def process(function, *arguments):
    started = CONTEXT.Process(target=function, args=arguments)
    started.start()
    return started


@pytest.mark.parametrize(("parent", "status"), [(os.getpid, 0), (lambda: 1, 1)])
def test_a_process_without_its_parent_ends(parent, status):
    """Otherwise it would wait forever, and so would any reader of its output."""
    started = process(begin_process, parent())
    started.join()
    assert started.exitcode == status


def interrupt_itself(parent):
    begin_process(parent)
    os.kill(os.getpid(), signal.SIGINT)
    os._exit(3)


def test_a_process_leaves_ctrl_c_to_its_parent():
    started = process(interrupt_itself, os.getpid())
    started.join(10)
    assert started.exitcode == 3


def interrupted_before_it_begins(parent):
    os.kill(os.getpid(), signal.SIGINT)
    begin_process(parent)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    os._exit(3 if not blocked else 4)


def test_ctrl_c_just_after_the_start_is_left_to_the_parent():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    started = start_process(interrupted_before_it_begins)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    started.join(10)
    assert started.exitcode == 3


def collect(parent):
    assert not gc.isenabled()  # it might collect what the parent left on its way here
    begin_process(parent)
    assert gc.isenabled()
    gc.collect()
    os._exit(3)


def test_what_the_parent_left_is_not_freed():
    """Scalers of FFmpeg have threads, which a fork does not have: freeing one there would wait for ever."""
    frame = VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
    frame.reformat(format="yuv420p", threads=2)  # the frame keeps its scaler
    cycle = [frame]
    cycle.append(cycle)
    del frame, cycle
    assert gc.isenabled()
    started = start_process(collect)
    started.join(20)
    alive = started.is_alive()
    started.kill()
    assert not alive
    assert started.exitcode == 3


def test_the_result_of_a_call_is_that_of_the_function():
    assert call_apart(os.getpid, limit_seconds=60) != os.getpid()
    values = np.arange(10**6)
    np.testing.assert_array_equal(call_apart(np.negative, values, limit_seconds=60), -values)


def test_killed_processes_leave_no_temporary_folder():
    assert call_apart(util.get_temp_dir, limit_seconds=60) == util.get_temp_dir()


def kill_itself(signum):
    os.kill(os.getpid(), signum)


def crash():
    faulthandler.disable()  # of pytest
    ctypes.string_at(0)


def abort():
    faulthandler.disable()
    os.abort()


@pytest.mark.parametrize(
    ("function", "arguments", "why"),
    [
        (kill_itself, (signal.SIGKILL,), r"kills the process \(SIGKILL\)"),
        (kill_itself, (signal.SIGTERM,), r"kills the process \(SIGTERM\)"),
        (crash, (), r"kills the process \(SIGSEGV\)"),
        (os._exit, (3,), r"kills the process \(exit status 3\)"),
        (abort, (), r"kills the process \(SIGABRT\)"),
    ],
)
def test_a_call_that_dies_says_why(function, arguments, why):
    with pytest.raises(Unfinished, match=f"^{why}$"):
        call_apart(function, *arguments, limit_seconds=60)


def loop():
    while True:
        pass


@pytest.mark.parametrize("function", [loop, lambda: ctypes.CDLL(None).sleep(1000)])
def test_a_call_that_takes_too_long_is_ended(function):
    calls = [Call(function) for _ in range(2)]
    for call in calls:
        with pytest.raises(TooLong, match=r"^takes longer than 0\.2 s$"):
            call.result(0.2)
    for call in calls:
        with pytest.raises(ProcessLookupError):
            os.kill(call._process.pid, 0)


def test_a_death_is_seen_at_once_beside_calls_that_other_threads_start(monkeypatch):
    """A process that another thread forks between a pipe and its start would hold the pipe open."""
    real = processes.start_process

    def slow(*arguments):
        time.sleep(0.1)
        return real(*arguments)

    monkeypatch.setattr(processes, "start_process", slow)
    causes = []

    def die():
        with pytest.raises(Unfinished) as found:
            Call(kill_itself, signal.SIGKILL).result(20)
        causes.append(str(found.value))

    def last():
        calls.append(Call(time.sleep, 1000))

    calls = []
    threads = [threading.Thread(target=target) for target in (last, die) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for call in calls:
        call.end()
    assert causes == ["kills the process (SIGKILL)"] * 3


def test_a_call_ends_with_its_block():
    with pytest.raises(KeyboardInterrupt), Call(time.sleep, 1000) as call:
        raise KeyboardInterrupt
    with pytest.raises(ProcessLookupError):
        os.kill(call._process.pid, 0)


class Own(Exception):
    def __init__(self, text, other):
        super().__init__(text)

    def __str__(self):
        raise RecursionError


def raise_it(error):
    raise error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("too quiet\nand more"), "ValueError: too quiet"),
        (MemoryError(), "MemoryError"),
        (Own("a", "b"), "Own"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
)
def test_an_exception_is_named(error, text):
    assert first_line(error) == text
    with pytest.raises(RuntimeError, match=f"^{text}$"):
        call_apart(raise_it, error, limit_seconds=60)


def test_what_cannot_be_sent_is_an_exception():
    with pytest.raises(RuntimeError, match="pickle"):
        call_apart(lambda: lambda: 0, limit_seconds=60)


def sleep_in_child(sender):
    call = Call(time.sleep, 1000)
    sender.send(call._process.pid)
    time.sleep(1000)


def test_a_call_ends_with_its_caller():
    receiver, sender = CONTEXT.Pipe(duplex=False)
    caller = CONTEXT.Process(target=sleep_in_child, args=(sender,))
    caller.start()
    assert receiver.poll(60)
    called = receiver.recv()
    caller.kill()
    caller.join()
    until = time.monotonic() + 20
    while alive(called) and time.monotonic() < until:
        time.sleep(0.01)
    assert not alive(called)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_an_error_keeps_its_kind_and_message():
    class Odd(ValueError):
        def __init__(self, one: object, two: object) -> None:
            super().__init__(f"{one} and {two}")

    assert repr(portable(Odd(1, 2))) == "ValueError('1 and 2')"
    assert repr(portable(KeyError("x"))) == "RuntimeError(\"KeyError: 'x'\")"
    full = portable(OSError(28, "No space left on device", "/x"))
    assert (full.errno, full.filename) == (28, "/x")


def test_an_error_of_another_process_shows_where_it_was_raised():
    try:
        raise_it(KeyError("x"))
    except KeyError as error:
        sent = pickle.loads(pickle.dumps(portable(error)))
    assert str(sent) == "KeyError: 'x'"
    assert "in raise_it" in "".join(traceback.format_exception(sent))
