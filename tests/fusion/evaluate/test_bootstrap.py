import tracemalloc

import numpy as np
import pytest

from amr.fusion.evaluate import bootstrap
from amr.fusion.evaluate.bootstrap import Resamples, fold_means, percentiles, resamples

ONE_FOLD = np.zeros(50, int)
NAME = ("accuracy",)


def test_means_agree_with_a_literal_loop():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 30))
    values[1, ::4] = np.nan
    folds = np.repeat([0, 1, 2], [5, 10, 15])
    weights = rng.integers(0, 3, (4, 30)).astype(float)
    weights[2, folds == 1] = 0
    means = fold_means({NAME: values}, folds, weights)[NAME]
    for row in range(4):
        for run in range(3):
            by_fold = []
            for k in range(3):
                valid = (folds == k) & ~np.isnan(values[run]) & (weights[row] > 0)
                if valid.any():
                    by_fold.append(np.average(values[run, valid], weights=weights[row, valid]))
            assert means[row, run] == pytest.approx(np.mean(by_fold))


def test_a_mean_of_no_values_is_nan():
    assert np.isnan(fold_means({NAME: np.full((2, 50), np.nan)}, ONE_FOLD, np.ones((1, 50)))[NAME]).all()


def test_groups_are_drawn_whole():
    groups = np.repeat(np.arange(10), 5)
    counts = resamples(groups, 20, 0)
    assert (counts.reshape(20, 10, 5) == counts.reshape(20, 10, 5)[..., :1]).all()
    assert (counts.reshape(20, 10, 5)[..., 0].sum(1) == 10).all()
    assert (resamples(np.arange(50), 20, 0).sum(1) == 50).all()


def test_resamples_depend_on_the_seed():
    assert np.array_equal(resamples(np.arange(9), 5, 1), resamples(np.arange(9), 5, 1))
    assert not np.array_equal(resamples(np.arange(9), 5, 1), resamples(np.arange(9), 5, 2))


def test_samples_are_those_of_one_draw_of_all_of_them():
    groups = np.array([7, 3, 7, 9, 3, 1])
    draws = np.random.default_rng(np.random.SeedSequence([5, *b"bootstrap"]))
    expected = draws.multinomial(4, np.full(4, 1 / 4), size=30)[:, [2, 1, 2, 3, 1, 0]].astype(np.float32)
    found = resamples(groups, 30, 5)
    assert np.array_equal(found, expected)
    assert found.strides == expected.strides  # so that a matrix product is the same to the bit


def test_samples_take_no_more_memory_than_their_weights():
    """Twice as many samples of one size take as much again as their weights, in float32."""
    groups = np.arange(2000)
    resamples(groups, 1, 0)  # what NumPy keeps of a first call
    peaks = []
    for count in (100, 200):
        tracemalloc.start()
        resamples(groups, count, 0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 1.1 * 100 * 2000 * 4


def test_run_groups_on_the_same_clips_have_samples_drawn_once(monkeypatch):
    drawn = []
    monkeypatch.setattr(bootstrap, "resamples", lambda *given: drawn.append(given) or resamples(*given))
    found = Resamples(20, 3)
    codes = [np.arange(9), np.arange(9), np.repeat([0, 1, 2], 3)]
    for groups in codes:
        assert np.array_equal(found.of(groups), resamples(groups, 20, 3))
    assert len(drawn) == 2


def test_percentiles_agree_with_numpy_s_and_ignore_nan():
    samples = np.random.default_rng(0).normal(size=(101, 3))
    samples[:20, 1] = np.nan
    samples[:80, 2] = np.nan
    low, high = percentiles(samples)
    for run in (0, 1):
        expected = np.nanquantile(samples[:, run], [0.025, 0.975])
        np.testing.assert_allclose([low[run], high[run]], expected)
    assert np.isnan(low[2])


@pytest.mark.parametrize("group_size", [1, 5])
def test_nineteen_intervals_of_twenty_hold_the_truth(group_size):
    """300 data sets of 100 clips, right with probability .7 per group; clips of one group have the same answer."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(100 // group_size), group_size)
    right = (rng.random((300, 100 // group_size)) < 0.7)[:, groups].astype(np.float32)
    samples = fold_means({NAME: right}, np.zeros(100, int), resamples(groups, 500, 0))[NAME]
    low, high = percentiles(samples)
    assert ((low <= 0.7) & (high >= 0.7)).mean() > 0.88
