from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from amr.fusion.config import FitConfig
from amr.fusion.report.read import read_results
from amr.fusion.report.settings import best_run, counterpart, reference_of, settings_of, shown
from amr.fusion.sweep.sweep import sweep
from amr.fusion.swept import SweepConfig


def test_settings_are_named_by_their_differences(made):
    settings = settings_of(read_results(made()))
    assert [setting.label for setting in settings] == [
        "no AMR",
        "AMR audio=1:video=1",
        "AMR audio=1:video=3",
        "UME",
        "audio only",
    ]
    assert [setting.is_even for setting in settings] == [False, True, False, False, False]
    assert [setting.fuses for setting in settings] == [True, True, True, False, False]


def test_reference_and_counterpart_are_the_settings_without_amr(made):
    settings = settings_of(read_results(made()))
    assert reference_of(settings) is settings[0]
    assert [counterpart(setting, settings) for setting in settings] == [None, settings[0], settings[0], None, None]


def test_intervals_agree_with_scipy(made):
    setting = settings_of(read_results(made(seeds=3)))[0]
    values = setting.values("accuracy")
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    np.testing.assert_allclose(
        setting.mean("accuracy") + setting.half_width("accuracy") * np.array([-1, 1]), [low, high]
    )


def test_two_seeds_have_no_interval(made):
    setting = settings_of(read_results(made()))[0]
    assert len(setting.values("accuracy")) == 2
    assert setting.half_width("accuracy") is None


def test_a_single_seed_has_the_interval_of_its_bootstrap(made):
    folder = made(seeds=1, p_corrected=0.5)
    document = json.loads((folder / "evaluation.json").read_text())
    for run in document["runs"]:
        run["intervals"] = {"accuracy": [0.7, 0.9]}
    (folder / "evaluation.json").write_text(json.dumps(document))
    assert settings_of(read_results(folder))[0].half_width("accuracy") == pytest.approx(0.1)


def test_the_reference_is_always_shown_and_the_best_run_is_chosen_on_val(made):
    settings = settings_of(read_results(made()))
    assert shown(settings, 2) == settings[:2]
    assert reference_of(settings) in shown(settings, 1)
    assert best_run(settings) is settings[0].runs[1]


def test_rows_of_an_evaluation_match_their_setting(made):
    results = read_results(made(p_corrected=0.5))
    settings = settings_of(results)
    assert [next(g.label for g in settings if g.matches(test)) for test in results.comparisons[::4]] == [
        "AMR audio=1:video=1",
        "AMR audio=1:video=3",
    ]


def test_what_a_frontier_varies_is_named_where_it_differs(small_cache):
    base = FitConfig(cache=str(small_cache), epochs=1, device="cpu")
    also = (
        replace(base, attribution="permutation", amr_ratio="1:1", amr_weight=0.1),
        replace(base, attribution="permutation", amr_ratio="1:1", amr_weight=0.3),
        replace(base, embedding_noise="2"),
        replace(base, weight_decay=5.0),
        replace(base, method="ume", method_option=("weights=3:1",)),
        replace(base, method="ume", method_option=("weights=1:3",)),
    )
    settings = settings_of(read_results(sweep(SweepConfig(base, also=also)).folder))
    even = "AMR audio=1:video=1"
    assert [setting.label for setting in settings] == [
        *("no AMR", f"{even} · weight 0.1", f"{even} · weight 0.3", "no AMR · noise 2", "no AMR · decay 5"),
        *("UME · weights=3:1", "UME · weights=1:3"),
    ]
    assert reference_of(settings) is settings[0]
    assert [counterpart(setting, settings) for setting in settings[:3]] == [None, settings[0], settings[0]]
