"""A short form of the damage of caches, in a process of its own: its children's memory has bounds."""

from __future__ import annotations

from ..__main__ import run_one


def test_what_is_read_of_a_damaged_cache_is_equal_or_refused():
    for row in run_one("files.caches", seed=1, scale=0.02):
        assert row["lost"] == [], row["kind"]
        assert row["tries"] > 0
