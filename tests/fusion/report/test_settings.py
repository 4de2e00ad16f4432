from __future__ import annotations

import numpy as np
from scipy import stats

from amr.fusion.report.read import read_source
from amr.fusion.report.settings import best_run, counterpart, groups_of, reference_of, shown


def test_groups_are_named_by_what_sets_them_apart(made):
    groups = groups_of(read_source(made()))
    assert [group.label for group in groups] == ["no AMR", "AMR 1:1", "AMR 1:3", "UME", "audio only"]
    assert [group.joint for group in groups] == [True, True, True, False, False]


def test_reference_and_counterpart_are_the_settings_without_amr(made):
    groups = groups_of(read_source(made()))
    assert reference_of(groups) is groups[0]
    assert [counterpart(group, groups) for group in groups] == [None, groups[0], groups[0], None, None]


def test_intervals_are_those_of_scipy(made):
    group = groups_of(read_source(made()))[0]
    values = group.values("accuracy")
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    np.testing.assert_allclose(group.mean("accuracy") + group.half_width("accuracy") * np.array([-1, 1]), [low, high])


def test_few_groups_are_shown_the_reference_always_and_the_best_run_is_chosen_on_val(made):
    groups = groups_of(read_source(made()))
    assert shown(groups, 2) == groups[:2]
    assert reference_of(groups) in shown(groups, 1)
    assert best_run(groups) is groups[0].runs[1]


def test_rows_of_an_evaluation_find_their_group(made):
    source = read_source(made(p_corrected=0.5))
    groups = groups_of(source)
    assert [next(g.label for g in groups if g.matches(test)) for test in source.comparisons[::3]] == [
        "AMR 1:1",
        "AMR 1:3",
    ]
