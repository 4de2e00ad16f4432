"""Memory at hand, so that what does not fit is refused before it is allocated."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from amr.common.files.space import in_units

SMALL_BYTES = 2**20  # 200,000 looks at the memory take 13 seconds
NO_LIMIT = 2**60  # version 1 of control groups writes "no limit" as a number beyond


def memory_at_hand() -> int:
    """Bytes that this process may still allocate: the least that the machine, control groups and `ulimit -v` leave."""
    found = [_of_machine(), _of_groups(), _of_limit()]
    return max(0, min(found))


def check_memory(num_bytes: int, what: str, advice: str) -> None:
    """Refuse what does not fit into memory. What is small passes.

    Args:
        num_bytes: Bytes that it needs.
        what: Name of the file or option.
        advice: What to type instead.

    Raises:
        ValueError: It needs more than the memory at hand; the message has both numbers.
    """
    if num_bytes <= SMALL_BYTES:
        return
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


def _of_groups(own: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that the control groups of this process still allow, such as those of a container or a SLURM job."""
    return min((_left(folder, names) for folder, names in _groups(own, mounted)), default=sys.maxsize)


class _Names(NamedTuple):
    limit: str
    used: str
    cached: str  # in memory.stat


_VERSION_1 = _Names("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = _Names("memory.max", "memory.current", "inactive_file")


@cache
def _groups(own: Path, mounted: Path) -> tuple[tuple[Path, _Names], ...]:
    """Folders with a limit: of the groups of this process, and of their parents, whose limits hold for it, too.

    Of a group that a container cannot see, the mounted folder stands for it.
    """
    found = []
    with suppress(OSError):
        for line in own.read_text(errors="surrogateescape").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            top, names = (mounted / "memory", _VERSION_1) if controllers else (mounted, _VERSION_2)
            group = top / path.lstrip("/")
            upwards = [group, *group.parents]
            found += [(folder, names) for folder in upwards[: upwards.index(top) + 1]]
    return tuple((folder, names) for folder, names in found if os.path.isfile(folder / names.limit))


def _left(folder: Path, names: _Names) -> int:
    """Bytes that a group still allows. Its cached files count as free: the kernel drops them if memory is short."""
    with suppress(OSError, ValueError):
        limit = int((folder / names.limit).read_text())  # "max" without a limit
        if limit < NO_LIMIT:
            stat = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
            cached = next((int(value) for name, value in stat if name == names.cached), 0)
            return limit - int((folder / names.used).read_text()) + cached
    return sys.maxsize


def _of_limit() -> int:
    """Bytes that `ulimit -v` still allows."""
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
