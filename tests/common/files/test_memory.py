from __future__ import annotations

import resource
import sys
from pathlib import Path

import pytest

from amr.common.files import memory
from amr.common.files.memory import check_memory, memory_at_hand


def test_memory_at_hand_is_the_least_of_all_limits(monkeypatch):
    assert memory_at_hand() > 0
    monkeypatch.setattr(memory, "_of_groups", lambda: 5)
    assert memory_at_hand() == 5
    monkeypatch.setattr(memory, "_of_limit", lambda: -3)
    assert memory_at_hand() == 0


def test_a_limit_of_addresses_counts(monkeypatch):
    limit = memory.address_space() + 2**30
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    assert memory_at_hand() <= 2**30 + 2**24


def test_what_does_not_fit_is_refused_with_both_numbers(monkeypatch):
    monkeypatch.setattr(memory, "memory_at_hand", lambda: 2**20)
    check_memory(2**20, "x.npz", "Save less.")
    with pytest.raises(ValueError, match=r"x\.npz must fit into the 1\.0 MiB of memory at hand, got 2\.0 MiB\. Save"):
        check_memory(2**21, "x.npz", "Save less.")


def test_what_is_small_needs_no_look_at_the_memory(monkeypatch):
    monkeypatch.setattr(memory, "memory_at_hand", lambda: pytest.fail("it looked"))
    check_memory(memory.SMALL_BYTES, "x.npz", "Save less.")
    with pytest.raises(pytest.fail.Exception):
        check_memory(memory.SMALL_BYTES + 1, "x.npz", "Save less.")


MIB = 2**20
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2 = ("memory.max", "memory.current", "inactive_file")


def make_group(folder: Path, names: tuple[str, str, str], limit: object, used: int = 0, cached: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 7\n{names[2]} {cached}\n{names[2]}_more 9\n")


@pytest.mark.parametrize(
    ("lines", "top", "names", "no_limit"),
    [
        (["0::{}"], ".", V2, "max"),
        (["9:name=systemd:/", "4:cpu,memory:{}", "3:cpuset:/x", "0::/"], "memory", V1, 2**63 - 4096),
    ],
)
def test_the_least_of_a_control_group_and_its_parents_counts(tmp_path, lines, top, names, no_limit):
    def left(path: str) -> int:
        own = tmp_path / f"cgroup of {path.replace('/', '-')}"
        own.write_text("\n".join(lines).format(path) + "\n")
        return memory._of_groups(own, tmp_path)

    root = tmp_path / top
    make_group(root / "slurm", names, no_limit)
    make_group(root / "slurm/job_7", names, 900 * MIB, 500 * MIB, 100 * MIB)
    make_group(root / "slurm/job_7/step:0", names, no_limit, 300 * MIB)
    make_group(root / "slurm/job_7/step:0/task", names, 600 * MIB, 200 * MIB)
    assert left("/slurm") == sys.maxsize
    assert left("/slurm/job_7") == left("/slurm/job_7/step:0") == 500 * MIB
    assert left("/slurm/job_7/step:0/task") == 400 * MIB
    assert left("/nothing/here") == left("/../outside") == sys.maxsize
    make_group(root, names, 300 * MIB)  # a container, whose own group is mounted at the top
    assert left("/docker/0123") == left("/") == left("/../sibling") == 300 * MIB
    (root / "slurm/job_7/step:0/task" / names[0]).write_text(f"{100 * MIB}\n")  # it may change while we compute
    assert left("/slurm/job_7/step:0/task") == -100 * MIB


def test_without_control_groups_there_is_no_limit(tmp_path):
    assert memory._of_groups(tmp_path / "none", tmp_path) == sys.maxsize
