import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from amr.fusion.runs.statistics import holm, mean_interval, paired_test, wilcoxon


def test_the_interval_of_a_mean_is_scipy_s():
    values = [0.5, 0.6, 0.55, 0.52]
    mean, half = mean_interval(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high))


def test_independent_pairs_are_tested_as_scipy_does():
    differences = np.random.default_rng(0).normal(0.3, 1, 12)
    test = paired_test(differences)
    expected = stats.ttest_1samp(differences, 0)
    assert test.p == pytest.approx(expected.pvalue)
    assert test.interval == pytest.approx(tuple(expected.confidence_interval()))
    assert test.effect_size == pytest.approx(differences.mean() / differences.std(ddof=1))
    assert test.p_wilcoxon == pytest.approx(stats.wilcoxon(differences).pvalue)


def test_folds_that_share_clips_prove_less():
    differences = np.random.default_rng(0).normal(0.5, 1, 25)
    apart, shared = paired_test(differences), paired_test(differences, overlap=1 / 3)
    t = differences.mean() / (differences.std(ddof=1) * np.sqrt(1 / 25 + 1 / 3))
    assert shared.p == pytest.approx(2 * stats.t.sf(abs(t), 24))
    assert shared.p > apart.p
    assert shared.difference == apart.difference


def test_what_does_not_spread_is_not_tested():
    assert paired_test([0.25]).p is None
    assert paired_test([0.1, 0.1 + 1e-16, 0.1]).p is None
    assert paired_test([0.0, 0.0, 0.0]).p == 1


def test_five_pairs_are_too_few_for_wilcoxon():
    assert wilcoxon([1, 2, 3, 4, 5]) is None
    assert wilcoxon([1, 2, 3, 4, 5, 6]) < 0.05
    assert wilcoxon([0, 0, 0, 0, 0, 1e-12]) == 1


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=12))
def test_holm_s_correction_keeps_the_order_and_only_adds(p_values):
    corrected = holm(p_values)
    there = [(p, c) for p, c in zip(p_values, corrected, strict=True) if p is not None]
    assert [c is None for c in corrected] == [p is None for p in p_values]
    assert all(p <= c <= 1 for p, c in there)
    in_order = [c for _, c in sorted(there)]
    assert in_order == sorted(in_order)
    if there:
        smallest = min(there)
        assert smallest[1] == pytest.approx(min(1, smallest[0] * len(there)))
