import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from amr.fusion.runs.statistics import holm, mean_interval, p_text, paired_test, ratio_interval, why_no_test, wilcoxon


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


def test_overlapping_training_clips_raise_p():
    differences = np.random.default_rng(0).normal(0.5, 1, 25)
    independent, overlapping = paired_test(differences), paired_test(differences, overlap=1 / 3)
    t = differences.mean() / (differences.std(ddof=1) * np.sqrt(1 / 25 + 1 / 3))
    assert overlapping.p == pytest.approx(2 * stats.t.sf(abs(t), 24))
    assert overlapping.p > independent.p
    assert overlapping.difference == independent.difference


def test_the_interval_of_a_ratio_has_the_ratios_that_a_test_does_not_refuse():
    rng = np.random.default_rng(1)
    below = rng.normal(2, 0.3, 15)
    above = 0.7 * below + rng.normal(0, 0.4, 15)
    low, high = ratio_interval(above, below, overlap=0.25)
    for ratio, p in ((low, 0.05), (high, 0.05)):
        assert paired_test(above - ratio * below, overlap=0.25).p == pytest.approx(p, abs=1e-6)
    assert low < above.mean() / below.mean() < high
    assert ratio_interval(above - above.mean(), rng.normal(0, 1, 15)) is None  # the denominator may be 0
    assert ratio_interval([1, 2], [1, 1]) is None


def test_equal_differences_have_no_p():
    assert paired_test([0.25]).p is None
    assert paired_test([0.1, 0.1 + 1e-16, 0.1]).p is None
    assert paired_test([0.0, 0.0, 0.0]).p == 1


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=2))
def test_fewer_than_three_pairs_are_not_tested(differences):
    test = paired_test(differences)
    assert test.difference == pytest.approx(np.mean(differences))
    assert (test.num_pairs, test.interval) == (len(differences), None)
    assert (test.effect_size, test.p, test.p_wilcoxon) == (None, None, None)
    assert why_no_test(len(differences)).endswith("too few for a paired test, which needs three")


def test_p_is_printed_in_one_form():
    values = [0.0, 0.0009, 0.001, 0.05, 0.8944, 0.9994, 0.9996, 1.0]
    assert [*map(p_text, values)] == ["<.001", "<.001", ".001", ".050", ".894", ".999", ">.999", ">.999"]


def test_five_pairs_are_too_few_for_wilcoxon():
    assert wilcoxon([1, 2, 3, 4, 5]) is None
    assert wilcoxon([1, 2, 3, 4, 5, 6]) < 0.05
    assert wilcoxon([0, 0, 0, 0, 0, 1e-12]) == 1


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=12))
def test_holm_s_correction_keeps_the_order_and_only_adds(p_values):
    corrected = holm(p_values)
    pairs = [(p, c) for p, c in zip(p_values, corrected, strict=True) if p is not None]
    assert [c is None for c in corrected] == [p is None for p in p_values]
    assert all(p <= c <= 1 for p, c in pairs)
    in_order = [c for _, c in sorted(pairs)]
    assert in_order == sorted(in_order)
    if pairs:
        smallest = min(pairs)
        assert smallest[1] == pytest.approx(min(1, smallest[0] * len(pairs)))
