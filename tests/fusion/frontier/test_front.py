"""The front, the price and the best head, on numbers made by hand."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amr.fusion.config import FitConfig
from amr.fusion.frontier.front import Target, best_of, front_of, pareto, price_of, reported
from amr.fusion.frontier.measure import Measured, Values, shares
from amr.fusion.frontier.settings import Setting
from amr.fusion.runs.statistics import paired_test

TARGET = Target(np.array([0.5, 0.5]), 0.25, 0.01)
uses = st.floats(-0.2, 0.6)


def measured(label: str, accuracy: float, share: float, *, runs: bool = True, seeds: int = 3, spread: float = 0.01):
    """A setting of 5 folds with this mean accuracy and use share of audio, the same on val and test."""
    rng = np.random.default_rng([*label.encode()])
    accuracies = accuracy + spread * _centered(rng.normal(size=(seeds, 5)))
    of_audio = share + spread * _centered(rng.normal(size=(seeds, 5)))
    values = Values(accuracies, 0.5 * np.stack([of_audio, 1 - of_audio], -1))
    setting = Setting("permutation", label, label, FitConfig())
    found = tuple(_run(f"{label}_seed{i}") for i in range(seeds)) if runs else ()
    return Measured(setting, ("audio", "video"), tuple(range(seeds)), found, values, values, values.use)


def _run(name: str) -> SimpleNamespace:
    return SimpleNamespace(name=name, test={"share": {"audio": 0.7, "video": 0.3}})


def _centered(values: np.ndarray) -> np.ndarray:
    return values - values.mean()


PLAIN = measured("plain", 0.70, 0.60)


@given(st.lists(st.tuples(uses, uses), min_size=3, max_size=8))
def test_shares_per_fold_have_the_share_of_the_means_as_their_mean(folds):
    parts = np.maximum(np.array([folds]), 0)
    total = parts.mean(1).sum()
    result = shares(parts).mean(1)
    if total > 1e-9:
        assert result == pytest.approx(parts.mean(1) / total, abs=1e-9)
        assert result.sum() == pytest.approx(1)
    if total == 0:
        assert np.isnan(result).all()


def test_a_modality_of_negative_use_has_no_share():
    values = Values(np.ones((1, 2)), np.array([[[0.4, -0.3], [0.2, 0.1]]]))
    assert values.use_share.mean(1).tolist() == [[1, 0]]


def test_the_front_has_what_no_other_beats_on_val():
    near, far = measured("near", 0.66, 0.51), measured("far", 0.69, 0.56)
    beaten, extreme = measured("beaten", 0.65, 0.57), measured("extreme", 0.71, 0.9)
    unknown = measured("unknown", 0.9, 0.5)
    unknown.val.use[:] = -1
    front = front_of([PLAIN, near, far, beaten, extreme, unknown], TARGET)
    assert [m.setting.label for m in front] == ["extreme", "plain", "far", "near"]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_a_point_is_on_the_front_if_and_only_if_none_beats_it(points):
    front = pareto(points)
    for i, (cost, gain) in enumerate(points):
        beaten = any((c <= cost and g > gain) or (c < cost and g >= gain) for c, g in points)
        assert (i in front) == (not beaten)


def test_the_best_head_is_the_nearest_of_those_that_cost_little_and_have_runs():
    dear, cheap = measured("dear", 0.66, 0.5), measured("cheap", 0.695, 0.55)
    unsaved = measured("unsaved", 0.71, 0.5, runs=False)
    assert best_of([PLAIN, dear, cheap, unsaved], TARGET) is cheap
    assert best_of([PLAIN, dear, cheap], Target(TARGET.shares, 0.25, 0.05)) is dear
    assert best_of([PLAIN, measured("worse", 0.695, 0.9)], Target(TARGET.shares, 0.25, 0.0)) is PLAIN


def test_the_price_is_the_ratio_of_the_mean_differences():
    moved = measured("moved", 0.67, 0.50)
    price = price_of(moved, PLAIN, TARGET)
    assert price["audio"]["accuracy_lost"] == pytest.approx(0.03)
    assert [price[m]["moved"] for m in ("audio", "video")] == pytest.approx([0.1, 0.1])
    assert price["audio"]["per_tenth"] == pytest.approx(0.03)
    low, high = price["audio"]["per_tenth_interval"]
    assert low < 0.03 < high
    lost = (PLAIN.test.gain - moved.test.gain).ravel()
    assert price["audio"]["accuracy_lost_interval"] == [*paired_test(lost, 0.25).interval]


def test_there_is_no_price_for_a_move_that_may_be_none_or_the_wrong_way():
    assert price_of(measured("unmoved", 0.69, 0.599), PLAIN, TARGET)["audio"]["per_tenth"] is None
    away = price_of(measured("away", 0.69, 0.7), PLAIN, TARGET)["audio"]
    assert away["moved"] == pytest.approx(-0.1)
    assert away["per_tenth"] is None
    noisy = price_of(measured("noisy", 0.6, 0.55, seeds=1, spread=0.3), PLAIN, TARGET)["audio"]
    assert noisy["moved_interval"][0] < 0 < noisy["moved"]
    assert noisy["per_tenth"] is None


def test_there_is_no_price_for_a_setting_that_ends_farther_from_the_target():
    beyond = price_of(measured("beyond", 0.67, 0.35), PLAIN, TARGET)["audio"]
    assert beyond["moved"] == pytest.approx(0.25)
    assert beyond["per_tenth"] is None


def test_a_seed_without_any_use_has_no_interval_and_no_price():
    without = measured("without", 0.67, 0.5)
    without.test.use[1] = -0.1
    entry, price = reported(without, TARGET), price_of(without, PLAIN, TARGET)["audio"]
    assert entry["use_share_interval"]["audio"] is price["moved_interval"] is price["per_tenth"] is None
    assert entry["accuracy_interval"] is not None
    assert np.isnan(entry["distance"])


def test_runs_without_a_common_seed_have_no_price():
    other = replace(measured("other", 0.67, 0.5), seeds=(7, 8, 9))
    assert price_of(other, PLAIN, TARGET) is None


def test_pairs_are_of_one_seed():
    fewer = measured("moved", 0.67, 0.5)
    one = Values(fewer.test.gain[1:2], fewer.test.use[1:2])
    fewer = Measured(fewer.setting, fewer.modalities, (1,), (), one, one, one.use)
    lost = price_of(fewer, PLAIN, TARGET)["audio"]["accuracy_lost"]
    assert lost == pytest.approx((PLAIN.test.gain[1] - one.gain[0]).mean())


def test_what_is_reported_is_the_mean_with_an_interval_wider_for_overlapping_folds():
    entry = reported(PLAIN, TARGET)
    assert entry["accuracy"] == pytest.approx(0.7)
    assert entry["use_share"]["audio"] == pytest.approx(0.6)
    assert entry["shapley_use_share"]["video"] == pytest.approx(0.4)
    assert entry["share"] == pytest.approx({"audio": 0.7, "video": 0.3})
    assert reported(measured("none", 0.7, 0.6, runs=False), TARGET)["share"] is None
    assert entry["distance"] == pytest.approx(0.1)
    wide, narrow = (reported(PLAIN, Target(TARGET.shares, each, 0.01)) for each in (0.25, 0.0))
    widths = [high - low for low, high in (wide["accuracy_interval"], narrow["accuracy_interval"])]
    assert widths[0] > widths[1] > 0
