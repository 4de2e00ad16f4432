"""A short form of the faults in decoding: each once for 0, 1 and 2 workers; one kill for each size of a clip."""

from __future__ import annotations

from .clips import run


def test_a_fault_costs_its_own_modality_and_no_worker_outlives_its_parent(tmp_path):
    for outcome in run(seed=0, scale=0.01, folder=tmp_path):
        assert outcome.lost == (), outcome.kind
        assert outcome.tries > 0
