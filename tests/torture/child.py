"""A function or a command in a process of its own, with bounds of time and memory, and all that it printed.

The process is forked, so it has this one's imports; a command then takes milliseconds rather than seconds. Its own
processes belong to its session, so none of them is overlooked.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amr.common.processes import end_with

SECONDS_BETWEEN_LOOKS = 0.02
TRACEBACK = "Traceback (most recent call last)"
BROKEN = 70  # exit status of a function that raised
OMP_PAUSE_SOFT = 1  # of OpenMP's omp.h


def end_openmp_threads() -> None:
    """End the threads that OpenMP keeps for its next loop: a fork does not have them, and would wait for ever."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    for file in {line.split()[-1] for line in maps if "/libgomp" in line}:  # wheels bring copies of their own
        ctypes.CDLL(file).omp_pause_resource_all(OMP_PAUSE_SOFT)


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: Exit status; -9 for SIGKILL.
        stdout, stderr: What it and its own processes printed.
        seconds: How long it took.
        stopped: "time" or "memory" if it was killed for a bound, "" otherwise.
        peaks: Process id -> largest resident memory in bytes, of it and of its own processes.
        parents: Process id -> id of the process that started it.
        orphans: Its own processes that still ran some seconds after it; they were killed.
    """

    code: int
    stdout: str
    stderr: str
    seconds: float
    stopped: str = ""
    peaks: Mapping[int, int] = field(default_factory=dict)
    parents: Mapping[int, int] = field(default_factory=dict)
    orphans: tuple[int, ...] = ()

    @property
    def peak_bytes(self) -> int:
        """Largest memory of one process."""
        return max(self.peaks.values(), default=0)

    @property
    def worker_peak_bytes(self) -> int:
        """Largest memory of a process that started no other."""
        return max((peak for pid, peak in self.peaks.items() if pid not in self.parents.values()), default=0)

    def fault(self, allowed: tuple[int, ...] = (0, 1, 2)) -> str:
        """What no command may do, whatever it is given; "" if it did none of it.

        A command ends by itself, with one of the exit statuses `allowed`, without a traceback, leaves no process
        behind, and says why where the status is 1 or 2.
        """
        if self.stopped:
            return f"no end: over its bound of {self.stopped} after {self.seconds:.0f} s"
        if self.code < 0:
            return f"died of {signal.Signals(-self.code).name}: {self.stderr[-200:].strip()}"
        if TRACEBACK in self.stderr + self.stdout:
            return f"traceback: {self.stderr.strip().splitlines()[-1][:200]}"
        if self.code not in allowed:
            return f"exit status {self.code}: {self.stderr[-200:].strip()}"
        if self.code in (1, 2) and not any(line.startswith("amr: ") for line in self.stderr.splitlines()):
            return f"exit status {self.code} without a sentence: {self.stderr[-200:].strip()!r}"
        if self.orphans:
            return f"{len(self.orphans)} processes left behind"
        return ""


class Child:
    """A process that runs a function, started at once.

    Args:
        function: Function without arguments. The exit status is what it returns if that is a number, 0 otherwise.
        folder: Working directory of the process, None for this one's.
        env: Environment variables that are set in it.
    """

    def __init__(
        self, function: Callable[[], Any], *, folder: Path | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self._stdout, self._stderr = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115
        self._peaks: dict[int, int] = {}
        self._parents: dict[int, int] = {}
        self._began = time.monotonic()
        parent = os.getpid()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        end_openmp_threads()
        self.pid = os.fork()
        if self.pid == 0:
            self._run(function, parent, folder, env or {})

    def _run(self, function: Callable[[], Any], parent: int, folder: Path | None, env: Mapping[str, str]) -> None:
        code: Any = BROKEN
        try:
            os.setsid()
            gc.freeze()  # what the other process left is not to be freed here: tests/conftest.py
            gc.enable()
            faulthandler.disable()  # of pytest: it would print that process's stacks for a crash of this one
            end_with(parent)
            for fd, file in ((1, self._stdout), (2, self._stderr)):
                os.dup2(file.fileno(), fd)
            sys.stdout, sys.stderr = (open(fd, "w", closefd=False, encoding="utf-8") for fd in (1, 2))  # noqa: SIM115
            os.environ.update(env)
            if folder is not None:
                os.chdir(folder)
            code = function()
            code = code if isinstance(code, int) else 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """Send the process alone a signal. Its own processes are not touched."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signum)

    def wait(self, seconds: float, max_bytes: int | None = None, grace_seconds: float = 5.0) -> Ended:
        """Wait until the process and its own have ended, and end them where they do not.

        Args:
            seconds: Time that it has, from its start.
            max_bytes: Memory that each of the processes may take, None for any.
            grace_seconds: Time that its own processes have to end after it.
        """
        stopped, status = "", 0
        while True:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self._measure()
            if ended:
                break
            over_memory = max_bytes is not None and max(self._peaks.values(), default=0) > max_bytes
            if over_memory or time.monotonic() - self._began > seconds:
                stopped = "memory" if over_memory else "time"
                self.kill()
                _, status = os.waitpid(self.pid, 0)
                break
            time.sleep(SECONDS_BETWEEN_LOOKS)
        took = time.monotonic() - self._began
        orphans = self._end_session(0 if stopped else grace_seconds)
        code = os.waitstatus_to_exitcode(status)
        return Ended(
            code,
            _text(self._stdout),
            _text(self._stderr),
            took,
            stopped,
            self._peaks,
            self._parents,
            () if stopped else orphans,
        )

    def _measure(self) -> None:
        for pid in [self.pid, *_session(self.pid)]:
            with suppress(OSError, ValueError, IndexError):
                status = Path(f"/proc/{pid}/status").read_text()
                peak, parent = (int(status.split(f"\n{name}:")[1].split()[0]) for name in ("VmHWM", "PPid"))
                self._peaks[pid] = max(self._peaks.get(pid, 0), peak * 1024)
                self._parents.setdefault(pid, parent)

    def _end_session(self, grace_seconds: float) -> tuple[int, ...]:
        until = time.monotonic() + grace_seconds
        while (left := _session(self.pid)) and time.monotonic() < until:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return tuple(left)


def run_child(
    function: Callable[[], Any],
    seconds: float = 60,
    *,
    max_bytes: int | None = None,
    folder: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Ended:
    """Run a function in a process of its own and wait for its end."""
    return Child(function, folder=folder, env=env).wait(seconds, max_bytes)


def amr(
    *arguments: object,
    seconds: float = 60,
    max_bytes: int | None = None,
    folder: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Ended:
    """Run a command, such as `amr("inspect", cache)`, in a process of its own, with imports done."""
    return run_child(command(*arguments), seconds, max_bytes=max_bytes, folder=folder, env=env)


def command(*arguments: object) -> Callable[[], int]:
    """A command as a function for `Child`; it returns its exit status."""
    import torch

    from amr.cli import run

    def function() -> int:
        torch.set_num_threads(1)
        return run([str(each) for each in arguments])

    return function


def _session(leader: int) -> list[int]:
    """Processes of the session besides its leader; not those that have ended and wait to be collected."""
    found = []
    for name in os.listdir("/proc"):
        with suppress(OSError, IndexError):
            if name.isdecimal() and os.getsid(int(name)) == leader != int(name):
                fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                if fields[0] not in "ZX":
                    found.append(int(name))
    return found


def _text(file: Any) -> str:
    file.seek(0)
    with file:
        return file.read().decode(errors="replace")
