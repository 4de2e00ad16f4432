"""Processes that this package starts: they end with the one that started them, and their death ends nothing else."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import util
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")

# Forked where that is safe: a new process then has everything in milliseconds, and its parent is the one that asked.
CONTEXT: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
SPAWN: Any = multiprocessing.get_context("spawn")  # for what a fork cannot have: another device of CUDA's
PR_SET_PDEATHSIG = 1  # of Linux's prctl
SECONDS_BETWEEN_LOOKS = 1.0
INTERRUPTS = (signal.SIGINT,)


class Unfinished(Exception):
    """A call in a separate process did not end: it "kills the process (SIGSEGV)", as the message says."""


class TooLong(Unfinished):
    """A call in a separate process was ended because it "takes longer than 300 s"."""


def end_with(parent: int) -> None:
    """Let this process end once its parent has ended, however that happens. To be called first in a new process.

    On Linux the kernel sends the signal, also where a process waits forever in C code. Elsewhere a thread looks. The
    kernel takes the thread that forked for the parent, so processes must not outlive the thread that starts them.

    Args:
        parent: Process id of the parent.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it ended before the kernel was asked
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os._exit(1)


def begin_process(parent: int) -> None:
    """Begin a new process: it ends with its parent, leaves Ctrl-C to it, and frees nothing of what it left.

    Args:
        parent: Process id of the parent.
    """
    gc.freeze()  # frames that the parent left: freeing their scalers would wait for threads that a fork does not have
    gc.enable()
    end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)  # blocked since before the fork


class _Starting:
    """Lock under which processes start; a new process has one of its own, which nobody holds."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self.lock = threading.RLock()


_starting = _Starting()


@contextmanager
def starting() -> Iterator[None]:
    """Make pipes, start a process with them, and close its ends of them here, in the block.

    One thread at a time: a process that another thread starts in between would keep the pipes open, and hide a death.
    """
    with _starting.lock:
        yield


def start_process(function: Callable[..., object], *arguments: Any, context: Any = CONTEXT, daemon: bool = True) -> Any:
    """Start a process, which calls the function with this process's id, for `begin_process`, and the arguments.

    Args:
        function: Function to call.
        arguments: Its arguments after the process id.
        context: Context of multiprocessing.
        daemon: Whether it may start no processes of its own.
    """
    with suppress(OSError):
        util.get_temp_dir()  # for its sockets: this process removes it, a killed one would leave its own
    process = context.Process(target=function, args=(os.getpid(), *arguments), daemon=daemon)
    try:
        with starting(), _undisturbed():
            process.start()
    except BaseException:
        if process.pid is not None:
            end_process(process)
        raise
    return process


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Fork in the block: neither Ctrl-C nor the garbage collector comes to the new process before `begin_process`."""
    collects = gc.isenabled()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    gc.disable()
    try:
        with warnings.catch_warnings():  # a fork beside other threads: it takes none of their locks
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        if collects:
            gc.enable()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class Call(Generic[T]):
    """A call of a function in a process of its own, begun at once. Several may run side by side.

    As a context manager it ends with its block.

    Args:
        function: Function to call. On systems that cannot fork, it and its arguments are pickled.
        arguments: Its arguments.
    """

    def __init__(self, function: Callable[..., T], *arguments: Any) -> None:
        with starting():
            self._results, sender = CONTEXT.Pipe(duplex=False)
            with sender:  # it is closed here, so that its end is the process's end
                self._process = start_process(_call, sender, function, arguments)
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def result(self, limit_seconds: float) -> T:
        """Wait for the result, and end the process.

        Args:
            limit_seconds: Time that the call may take from its beginning.

        Raises:
            Unfinished: The process died or took too long.
            RuntimeError: The function raised an exception, which the message names.
        """
        try:
            if not self._results.poll(max(0.0, self._began + limit_seconds - time.monotonic())):
                raise TooLong(f"takes longer than {limit_seconds:g} s")
            value, error = self._results.recv()
        except (EOFError, OSError):  # it ended before or while it sent
            self._process.join()
            raise Unfinished(f"kills the process ({cause_of_death(self._process.exitcode)})") from None
        finally:
            self.end()
        if error is not None:
            raise RuntimeError(error)
        result: T = value
        return result

    def end(self) -> None:
        """End the process, whatever it does."""
        end_process(self._process)
        self._results.close()


def _call(parent: int, sender: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    begin_process(parent)
    try:
        sender.send((function(*arguments), None))
    except Exception as error:
        sender.send((None, first_line(error)))
    threading.Event().wait()  # for its end: a file in the result is handed over by this process


def call_apart(function: Callable[..., T], *arguments: Any, limit_seconds: float) -> T:
    """Call a function in a process of its own and return its result; see `Call`."""
    return Call(function, *arguments).result(limit_seconds)


def end_process(process: Any) -> None:
    """Kill a process that this one started, if it is alive, and collect it."""
    process.kill()
    process.join()


def cause_of_death(exitcode: int | None) -> str:
    """Signal that ended a process, or its exit status.

    >>> cause_of_death(-9), cause_of_death(3)
    ('SIGKILL', 'exit status 3')
    """
    if exitcode is None or exitcode >= 0:
        return f"exit status {exitcode}"
    with_name = {each.value: each.name for each in signal.Signals}
    return with_name.get(-exitcode, f"signal {-exitcode}")


def first_line(error: BaseException) -> str:
    """Type of an error and the first line of its message.

    >>> first_line(ValueError("too quiet\\nand more"))
    'ValueError: too quiet'
    """
    try:
        lines = str(error).splitlines()
    except Exception:  # an exception of others whose text is broken
        lines = []
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def portable(error: Exception) -> Exception:
    """Error with the same message, and without what cannot be sent to another process. Its traceback is a note."""
    sent = _without_extras(error)
    sent.add_note("".join(traceback.format_exception(error)).rstrip())
    return sent


def _without_extras(error: Exception) -> Exception:
    if isinstance(error, OSError) and error.errno is not None:
        return OSError(error.errno, error.strerror, error.filename)
    for kind in (ValueError, FileNotFoundError, RuntimeError):
        if isinstance(error, kind):
            return kind(str(error))
    return RuntimeError(first_line(error))
