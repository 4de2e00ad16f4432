from __future__ import annotations

import resource

import pytest

from amr.common.files import memory
from amr.common.files.memory import check_memory, memory_at_hand


def test_memory_at_hand_is_the_least_of_all_limits(monkeypatch):
    assert memory_at_hand() > 0
    monkeypatch.setattr(memory, "_of_container", lambda: 5)
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
