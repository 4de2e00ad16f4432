"""A short form of the damage of caches."""

from __future__ import annotations

from .caches import run


def test_what_is_read_of_a_damaged_cache_is_equal_or_refused(tmp_path):
    for outcome in run(seed=1, scale=0.02, folder=tmp_path):
        assert outcome.lost == (), outcome.kind
        assert outcome.tries > 0
