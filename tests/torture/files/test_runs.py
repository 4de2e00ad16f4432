"""A short form of the damage of results."""

from __future__ import annotations

from .runs import run


def test_damaged_results_are_seen(tmp_path):
    for outcome in run(seed=0, scale=0.02, folder=tmp_path):
        assert outcome.lost == (), outcome.kind
        assert outcome.tries > 0
