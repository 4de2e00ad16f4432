"""Read a file in a separate process: what its library does with a damaged file cannot end the command."""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import os
import pickle
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import IO, Any, TypeVar

import numpy as np

from amr.common.files.memory import address_space, memory_at_hand
from amr.common.processes import CONTEXT, begin_process, cause_of_death, end_process, start_process, starting

Result = TypeVar("Result")

SECONDS = 12  # of computing, for any file
BYTES_PER_SECOND = 2**20  # further seconds for large ones
WAITING = 10  # times as long may it take with all waiting, for a disk or for other processes
_ALIGNMENT = 64
_BLOCK = 2**24
_MADV_DONTNEED = 4  # of Linux


class Crashed(OSError):
    """The process that read a file died."""


def apart(read: Callable[[], Result], num_bytes: int) -> Result:
    """Result of a function that runs in a separate process. Arrays come back through shared memory, without a copy.

    Where processes cannot be forked, the function runs in this one.

    Args:
        read: Function; what it raises must be picklable.
        num_bytes: Size of what it reads, for its time limit.

    Raises:
        Crashed: The process died: of a signal, of a time limit, for lack of memory.
    """
    if CONTEXT.get_start_method() != "fork":
        return read()
    seconds = SECONDS + num_bytes // BYTES_PER_SECOND
    with _shared_file() as arrays:
        with starting():
            receiver, sender = CONTEXT.Pipe(duplex=False)
            with sender:
                process = start_process(_child, read, arrays, sender, receiver, seconds)
        try:
            if not receiver.poll(WAITING * seconds):
                raise Crashed(f"content that is not read in {WAITING * seconds} seconds")
            error, pickled, sizes = receiver.recv()
        except EOFError:
            raise Crashed(_reason_of_death(process, seconds)) from None
        finally:
            end_process(process)
            receiver.close()
        if error is not None:
            raise error
        result: Result = ForkingPickler.loads(pickled, buffers=_buffers(arrays, sizes))
        return result


def _shared_file() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("amr-arrays"), "w+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)


def _reason_of_death(process: Any, seconds: int) -> str:
    import resource

    before = _computed_seconds()
    process.join()
    hard_limit = resource.getrlimit(resource.RLIMIT_CPU)[1]
    if hard_limit != resource.RLIM_INFINITY:
        seconds = min(seconds, hard_limit)
    killed = process.exitcode == -signal.SIGKILL
    if process.exitcode == -signal.SIGXCPU or (killed and _computed_seconds() - before > seconds - 0.5):
        return f"content that is not read in {seconds} seconds"
    if killed:  # mostly by the system, but nothing says so
        return "content that needs more memory than there is, or whose reader something killed (SIGKILL)"
    return f"content that ends its reader ({cause_of_death(process.exitcode)})"


def _computed_seconds() -> float:
    """Processor time of all processes that this one started and has collected."""
    import resource

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _child(
    parent: int, read: Callable[[], Any], arrays: IO[bytes], sender: Connection, receiver: Connection, seconds: int
) -> None:
    begin_process(parent)
    receiver.close()
    _limit(seconds)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the last words of a crashing library
    faulthandler.disable()
    buffers: list[pickle.PickleBuffer] = []
    try:
        pickled = pickle.dumps(read(), protocol=5, buffer_callback=buffers.append)
        sender.send((None, pickled, _hand_over(buffers, arrays)))
    except Exception as error:
        sender.send((_plain(error), b"", []))
    sender.close()
    os._exit(0)


def _plain(error: Exception) -> Exception:
    """Error that can be pickled, of the same kind."""
    with suppress(Exception):
        if type(ForkingPickler.loads(ForkingPickler.dumps(error))) is type(error):
            return error
    return ValueError(str(error)) if isinstance(error, ValueError) else OSError(str(error) or type(error).__name__)


def _limit(seconds: int) -> None:
    import resource

    most = resource.getrlimit(resource.RLIMIT_CPU)[1]
    if most == resource.RLIM_INFINITY or most > seconds:  # else `ulimit -t` has set less
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if used := address_space():
        resource.setrlimit(resource.RLIMIT_AS, (used + memory_at_hand(), resource.getrlimit(resource.RLIMIT_AS)[1]))


def _hand_over(buffers: Sequence[pickle.PickleBuffer], arrays: IO[bytes]) -> list[int]:
    """Write buffers to the shared file and free their memory as they are written; return their sizes."""
    contents = [buffer.raw() for buffer in buffers]
    apart = _disjoint(contents)
    sizes = []
    for content in contents:
        for start in range(0, len(content), _BLOCK):
            block = content[start : start + _BLOCK]
            written = 0
            while written < len(block):
                written += arrays.write(block[written:])
            if apart:
                _free(block)
        arrays.seek(-len(content) % _ALIGNMENT, os.SEEK_CUR)
        sizes.append(len(content))
    arrays.truncate(max(arrays.tell(), 1))
    return sizes


def _address(block: memoryview) -> int:
    return int(np.frombuffer(block, np.uint8).__array_interface__["data"][0])


def _disjoint(contents: Sequence[memoryview]) -> bool:
    """Whether no two buffers share memory."""
    spans = sorted((_address(content), len(content)) for content in contents if len(content))
    return all(first + num_bytes <= second for (first, num_bytes), (second, _) in pairwise(spans))


def _free(block: memoryview) -> None:
    """Give the whole pages of a block that is no longer needed back to the system."""
    if sys.platform != "linux":
        return
    address = _address(block)
    first = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
    num_bytes = (address + len(block) - first) // mmap.PAGESIZE * mmap.PAGESIZE
    if num_bytes > 0:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(num_bytes), _MADV_DONTNEED)


def _buffers(arrays: IO[bytes], sizes: Sequence[int]) -> list[memoryview]:
    """Memory of the arrays in the shared file."""
    content = memoryview(mmap.mmap(arrays.fileno(), 0))
    found, start = [], 0
    for num_bytes in sizes:
        found.append(content[start : start + num_bytes])
        start += -(-num_bytes // _ALIGNMENT) * _ALIGNMENT
    return found
