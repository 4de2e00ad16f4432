"""Memory at hand, so that what does not fit is refused before it is allocated."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from amr.common.files.space import in_units


def memory_at_hand() -> int:
    """Bytes that this process may still allocate: the least of what the machine, its container and its limits leave."""
    found = [_of_machine(), _of_container(), _of_limit()]
    return max(0, min(found))


def check_memory(num_bytes: int, what: str, advice: str) -> None:
    """Refuse what does not fit into memory.

    Args:
        num_bytes: Bytes that it needs.
        what: Name of the file or option.
        advice: What to type instead.

    Raises:
        ValueError: It needs more than the memory at hand; the message has both numbers.
    """
    at_hand = memory_at_hand()
    if num_bytes > at_hand:
        raise ValueError(
            f"{what} must fit into the {in_units(at_hand)} of memory at hand, got {in_units(num_bytes)}. {advice}"
        )


def _of_machine() -> int:
    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return sys.maxsize


def _of_container() -> int:
    """What the control group of a container leaves; files that it caches can be dropped."""
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError, StopIteration):
        limit = int((group / "memory.max").read_text())  # "max" without a limit
        used = int((group / "memory.current").read_text())
        stat = (group / "memory.stat").read_text().splitlines()
        cached = next(int(line.split()[1]) for line in stat if line.startswith("inactive_file "))
        return limit - used + cached
    return sys.maxsize


def _of_limit() -> int:
    """What `ulimit -v` leaves."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            return limit - address_space()
    return sys.maxsize


def address_space() -> int:
    """Bytes of addresses that this process uses, which `ulimit -v` counts; 0 where it is unknown."""
    with suppress(OSError, ValueError, ImportError):
        import resource

        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    return 0
