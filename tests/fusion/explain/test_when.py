from __future__ import annotations

import numpy as np
import pytest

from amr.fusion.explain.config import ExplainConfig
from amr.fusion.explain.explain import explain
from amr.fusion.explain.when import timed, when_it_mattered

from ..heads.test_steps import write_cache
from .test_explain import fitted


@pytest.mark.parametrize("head", ["concat", "attention"])
def test_several_clips_at_once_agree_with_the_explanation_of_each(workspace, head):
    run = fitted(write_cache(workspace / "caches/steps.h5"), head=head)
    ids = ["c001", "c004", "nothing"]
    found = when_it_mattered(run, dict.fromkeys(ids, 0), {"c001": {"audio": 2.0}})
    assert [*found] == ids[:2]
    for id_ in found:
        steps = explain(ExplainConfig(run, id_, device="cpu")).steps
        assert found[id_].keys() == steps.keys()
        for m, each in steps.items():
            np.testing.assert_allclose(found[id_][m].weight, each.weight, rtol=1e-5)
    assert found["c001"]["audio"].end_seconds[-1] == 2.0
    assert found["c004"]["audio"].end_seconds[-1] == 1.0
    assert not found["c004"]["audio"].in_seconds


def test_each_clip_is_asked_of_the_fold_that_tests_it(workspace):
    run = fitted(write_cache(workspace / "caches/steps.h5"), head="attention", folds=3)
    weights = [when_it_mattered(run, {"c001": fold}, {})["c001"]["audio"].weight for fold in range(3)]
    assert weights[0] != weights[1]
    mean = explain(ExplainConfig(run, "c001", device="cpu")).steps["audio"].weight
    np.testing.assert_allclose(np.mean(weights, axis=0), mean, rtol=1e-5)
    assert when_it_mattered(run, {"c001": 3}, {}) == {}


def test_steps_are_equal_parts_of_the_clip():
    steps = timed({"voice": {"modality": "audio"}}, {"voice": [0.25, 0.75]}, {"audio": 3.0})["voice"]
    assert (steps.start_seconds, steps.end_seconds, steps.in_seconds) == ([0.0, 1.5], [1.5, 3.0], True)
