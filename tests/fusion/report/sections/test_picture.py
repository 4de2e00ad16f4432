from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amr.fusion.report.page import FIGURES
from amr.fusion.report.read import read_results
from amr.fusion.report.sections.balance import dominance, pareto, share_against_use, use_share
from amr.fusion.report.sections.curves import missing, noise, training
from amr.fusion.report.sections.decisions import confusion, per_class
from amr.fusion.report.sections.figure import wide_enough
from amr.fusion.report.sections.people import followed, people_table
from amr.fusion.report.settings import settings_of


def source_and_groups(folder):
    results = read_results(folder)
    return results, settings_of(results)


def test_every_picture_has_words_and_its_numbers(made):
    results, settings = source_and_groups(made(people=True))
    figures = [figure for make in FIGURES if (figure := make(results, settings)) is not None]
    assert len(figures) == len(FIGURES)
    assert len({figure.name for figure in figures}) == len(figures)
    for figure in figures:
        assert figure.alt.endswith(".")
        assert len(figure.alt) > 20
        assert figure.table.rows
        assert (figure.choice != "") == (len(figure.plots) > 1)
        for plot in figure.plots.values():
            json.dumps(plot, allow_nan=False)
            assert "template" not in plot["layout"]


def test_pictures_of_what_was_not_evaluated_are_left_out(made):
    results, settings = source_and_groups(made())
    assert [make(results, settings) for make in (missing, noise, per_class, confusion, followed)] == [None] * 5
    assert people_table(settings) is None
    assert all(make(results, settings) is not None for make in (dominance, share_against_use, training))


def test_the_points_of_dominance_are_the_numbers_of_its_table(made):
    results, settings = source_and_groups(made())
    figure = dominance(results, settings)
    points = next(trace for trace in figure.plots[""]["data"] if trace["mode"] == "markers+text")
    rows = {row[0].text: (row[1].value, row[2].value) for row in figure.table.rows}
    for label, x, y in zip(points["customdata"], points["x"], points["y"], strict=True):
        assert rows[label] == (x, y)
    assert {row[0].text for row in figure.table.rows if row[5].text == "yes"} == {"no AMR", "AMR 1:1"}


def test_a_confusion_matrix_counts_every_clip_once(made):
    results, settings = source_and_groups(made(p_corrected=1.0))
    figure = confusion(results, settings)
    assert sum(row[2].value for row in figure.table.rows) == 30
    assert np.sum(figure.plots[""]["data"][0]["text"]) == 30


def test_what_shuffling_costs_adds_to_one(made):
    _, settings = source_and_groups(made())
    for setting in settings[:4]:
        assert sum(use_share(setting).values()) == pytest.approx(1)
    assert use_share(settings[4]) is None


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats_and_beats_all_else(points):
    front = pareto(points)
    assert front

    def beats(a, b):
        return a[0] <= b[0] and a[1] >= b[1] and a != b

    for i, point in enumerate(points):
        assert (i in front) == (not any(beats(other, point) for other in points))
        assert i in front or any(beats(points[k], point) for k in front)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_a_range_holds_its_values_and_is_not_narrow(values):
    low, high = wide_enough(values)
    assert 0 <= low <= min(values) + 1e-6
    assert max(values) - 1e-6 <= high <= 1
    assert high - low >= 0.1 - 1e-6
