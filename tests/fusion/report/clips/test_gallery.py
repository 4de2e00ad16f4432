from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from amr.fusion.report.clips.gallery import galleries, most_costly, most_one_sided
from amr.fusion.report.clips.media import Shown
from amr.fusion.report.decisions import Decisions
from amr.fusion.report.read import read_results
from amr.fusion.report.settings import settings_of


@given(arrays(float, st.tuples(st.integers(1, 9), st.integers(2, 3)), elements=st.floats(0, 1)), st.integers(1, 9))
def test_modalities_alternate_and_no_clip_comes_twice(shares, most):
    selected = most_one_sided(shares, most)
    assert len(selected) == len(set(selected)) == min(most, len(shares))
    assert shares[selected[0], 0] == shares[:, 0].max()


def test_clips_without_shares_are_left_out():
    shares = np.array([[np.nan, np.nan], [0.2, 0.8]])
    assert most_one_sided(shares, 5) == [1]


def test_the_clips_are_from_the_best_run_and_need_no_media(made):
    results = read_results(made(p_corrected=0.5))
    found = galleries(results, settings_of(results), 4, media=True)
    mine = results.decisions.of([found.run.name])
    assert all("of the run that is best on val (no AMR, seed 1)" in each.text for each in found.galleries)
    one_sided, errors = found.galleries
    assert "One-sided are 0.400 of its decisions: the fraction of the clips whose share" in one_sided.text
    for view in (*one_sided.clips, *errors.clips):
        row = list(mine.ids).index(view.id)
        assert view.shares["audio"] == pytest.approx(float(mine.shares[0, row, 0]))
        assert view.pred == results.classes[mine.preds[0, row]]
        assert view.media == Shown()
        assert view.steps == {}
    assert galleries(results, settings_of(results), 0, media=True) is None


def test_errors_are_wrong_and_the_costliest_come_first(made):
    results = read_results(made(p_corrected=0.5))
    (_, errors) = galleries(results, settings_of(results), 5, media=False).galleries
    assert all(view.pred != view.target for view in errors.clips)
    given = [view.true_probability for view in errors.clips]
    assert given == sorted(given)
    mine = results.decisions.of([results.runs[1].name])
    wrong = mine.preds[0] != mine.target
    assert given[0] == pytest.approx(mine.probability[0, wrong, mine.target[wrong]].min())


@given(st.data())
def test_without_all_probabilities_the_surest_errors_come_first(data):
    num = data.draw(st.integers(1, 8))
    preds, target = (np.array(data.draw(st.lists(st.integers(0, 2), min_size=num, max_size=num))) for _ in range(2))
    confidence = np.array(data.draw(st.lists(st.floats(0.4, 1), min_size=num, max_size=num)))
    ids = np.arange(num).astype(str)
    mine = Decisions("multiclass", ("run",), ids, target, preds[None], np.zeros((1, num, 0)), confidence[None])
    costly = most_costly(mine, num)
    assert set(costly) == set(np.flatnonzero(preds != target))
    assert sorted(confidence[costly], reverse=True) == confidence[costly].tolist()


def test_a_run_of_one_modality_has_errors_and_no_one_sided_clips(made):
    results = read_results(made(p_corrected=0.5))
    alone = next(run for run in results.runs if run.config.method == "unimodal")
    of_one = replace(results, runs=(alone,))
    found = galleries(of_one, settings_of(of_one), 3, media=False)
    assert [gallery.name for gallery in found.galleries] == ["errors"]
    assert all(view.shares == {} for view in found.galleries[0].clips)
