from __future__ import annotations

import numpy as np
from scipy import stats

from amr.fusion.report.read import read_results
from amr.fusion.report.settings import best_run, counterpart, reference_of, settings_of, shown


def test_settings_are_named_by_their_differences(made):
    settings = settings_of(read_results(made()))
    assert [setting.label for setting in settings] == ["no AMR", "AMR 1:1", "AMR 1:3", "UME", "audio only"]
    assert [setting.fuses for setting in settings] == [True, True, True, False, False]


def test_reference_and_counterpart_are_the_settings_without_amr(made):
    settings = settings_of(read_results(made()))
    assert reference_of(settings) is settings[0]
    assert [counterpart(setting, settings) for setting in settings] == [None, settings[0], settings[0], None, None]


def test_intervals_agree_with_scipy(made):
    setting = settings_of(read_results(made()))[0]
    values = setting.values("accuracy")
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    np.testing.assert_allclose(
        setting.mean("accuracy") + setting.half_width("accuracy") * np.array([-1, 1]), [low, high]
    )


def test_the_reference_is_always_shown_and_the_best_run_is_chosen_on_val(made):
    settings = settings_of(read_results(made()))
    assert shown(settings, 2) == settings[:2]
    assert reference_of(settings) in shown(settings, 1)
    assert best_run(settings) is settings[0].runs[1]


def test_rows_of_an_evaluation_match_their_setting(made):
    results = read_results(made(p_corrected=0.5))
    settings = settings_of(results)
    assert [next(g.label for g in settings if g.matches(test)) for test in results.comparisons[::3]] == [
        "AMR 1:1",
        "AMR 1:3",
    ]
