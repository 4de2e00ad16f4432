from __future__ import annotations

import os
import resource
import signal
import time

import numpy as np
import pytest

from amr.common.processes import CONTEXT
from amr.extract.arrays import apart as module
from amr.extract.arrays.apart import Crashed, apart
from amr.extract.arrays.rows import Rows
from amr.extract.arrays.stack import stack_clips


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(12.0)[::2],
        np.zeros((0, 3)),
        np.array(["a", None, 3], dtype=object),
        np.array([["a", "bc"]]),
        np.frombuffer(b"read only", np.uint8),
        np.arange(3_000_000, dtype=np.int32),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_arrays_come_back_as_they_are(array):
    result = apart(lambda: Rows(array, ids=("a",)), 0)
    assert result.ids == ("a",)
    assert result.values.dtype == array.dtype
    np.testing.assert_array_equal(result.values, array)


def test_arrays_that_share_memory_come_back_as_they_are():
    array = np.arange(2_000_000.0)
    first, second = apart(lambda: (array[:1_500_000], array[500_000:]), 0)
    np.testing.assert_array_equal(first, array[:1_500_000])
    np.testing.assert_array_equal(second, array[500_000:])


def test_arrays_of_clips_come_back_as_they_are():
    clips = [np.ones((2, 3)), None, np.zeros((1, 3))]
    result = apart(lambda: stack_clips(clips, list("abc"), "x"), 0)
    np.testing.assert_array_equal(np.asarray(result), np.asarray(stack_clips(clips, list("abc"), "x")))


def test_errors_are_raised_here():
    def refuse() -> None:
        raise ValueError("x must be a file, got none. Pass one.")

    class Odd(Exception):
        def __init__(self, one: int, other: int) -> None:
            super().__init__(f"{one} {other}")

    def odd() -> None:
        raise Odd(1, 2)

    with pytest.raises(ValueError, match=r"x must be a file, got none\. Pass one\."):
        apart(refuse, 0)
    with pytest.raises(OSError, match="1 2"):
        apart(odd, 0)


@pytest.mark.parametrize("signum", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_death_of_the_reader_is_an_error(signum):
    with pytest.raises(Crashed, match="content that"):
        apart(lambda: os.kill(os.getpid(), signum), 0)


def test_a_reader_that_takes_all_memory_or_does_not_end_is_an_error(monkeypatch):
    monkeypatch.setattr(module, "memory_at_hand", lambda: 2**28)
    with pytest.raises(MemoryError):
        apart(lambda: bytes(2**29), 0)
    monkeypatch.setattr(module, "SECONDS", 1)

    def endless() -> None:
        while True:
            pass

    with pytest.raises(Crashed, match=r"not read in (1|10) seconds"):  # 10 by the clock, on a busy machine
        apart(endless, 0)


def test_a_reader_that_waits_without_end_is_an_error(monkeypatch):
    monkeypatch.setattr(module, "SECONDS", 1)
    monkeypatch.setattr(module, "WAITING", 1)
    with pytest.raises(Crashed, match=r"^content that is not read in 1 seconds$"):
        apart(lambda: time.sleep(1000), 0)


def _ended_by_the_system() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (1, 1))  # then the system kills, without SIGXCPU before

    def endless() -> None:
        while True:
            pass

    with pytest.raises(Crashed, match=r"^content that is not read in 1 seconds$"):
        apart(endless, 0)
    with pytest.raises(Crashed, match="more memory than there is, or"):
        apart(lambda: os.kill(os.getpid(), signal.SIGKILL), 0)


def test_the_limit_of_the_system_is_no_lack_of_memory():
    process = CONTEXT.Process(target=_ended_by_the_system)
    process.start()
    process.join()
    assert process.exitcode == 0


def _limited() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (5, 5))
    assert apart(lambda: 3, 0) == 3


def test_a_stricter_limit_of_the_system_stays():
    process = CONTEXT.Process(target=_limited)
    process.start()
    process.join()
    assert process.exitcode == 0
