import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, average_precision_score, f1_score
from torch import tensor

from amr.fusion.tasks.metrics import (
    accuracy,
    label_average_precision,
    label_f1,
    label_scores,
    log_odds,
    macro_f1,
    mean_average_precision,
)

SCORES = tensor([[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.3, 0.6, 0.1], [0.2, 0.7, 0.1]])
TARGET = tensor([0, 0, 1, 1])


def test_metrics_of_four_clips():
    assert float(accuracy(SCORES, TARGET)) == 0.75
    value, left_out = mean_average_precision(SCORES.log(), TARGET)
    assert (value, left_out) == (1.0, 1)  # both classes are ranked perfectly; the third has no clip
    assert macro_f1(SCORES, TARGET) == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_average_precision_of_a_wrong_ranking():
    scores = tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    value, _ = mean_average_precision(scores.log(), tensor([0, 1, 0]))
    assert value == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2) / 2)


def test_accuracy_has_one_value_per_run():
    stacked = torch.stack([SCORES, SCORES.flip(-1)])
    torch.testing.assert_close(accuracy(stacked, TARGET), tensor([0.75, 0.5], dtype=torch.float64))


def test_clips_that_are_all_certain_are_still_ranked():
    margins = torch.tensor([90.0, 80.0, 70.0, 60.0, 50.0])  # every softmax is (1, 0) in float32, and in float64
    logits = torch.stack([margins, torch.zeros(5)], dim=-1)
    target = tensor([0, 0, 1, 0, 1])
    value, _ = mean_average_precision(logits, target)
    first = (1 + 1 + 3 / 4) / 3  # ranks 1, 2 and 4 of class 0
    second = (1 + 2 / 3) / 2  # from the smallest margin: class 1, class 0, class 1
    assert value == pytest.approx((first + second) / 2)


def test_log_odds_are_those_of_the_definition():
    logits = torch.randn(50, 7, dtype=torch.float64) * 3
    p = logits.softmax(-1)
    torch.testing.assert_close(log_odds(logits), p.log() - (1 - p).log())
    assert torch.equal(log_odds(logits)[:, :1] > 0, p[:, :1] > 0.5)


def test_a_class_that_is_impossible_ranks_last_without_an_error():
    logits = torch.tensor([[0.0, -torch.inf], [0.0, 1.0], [1.0, 0.0]])
    value, _ = mean_average_precision(logits, tensor([0, 1, 0]))
    assert value == 1.0


@given(
    num_clips=st.integers(1, 30),
    num_classes=st.integers(2, 5),
    decimals=st.integers(0, 3),  # few decimals make ties
    seed=st.integers(0, 2**32 - 1),
)
def test_measures_are_those_of_scikit_learn(num_clips, num_classes, decimals, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_clips, num_classes, generator=generator).round(decimals=decimals)
    target = torch.randint(num_classes, (num_clips,), generator=generator)
    odds = log_odds(logits)
    each = [average_precision_score(target == c, odds[:, c]) for c in target.unique()]
    assert mean_average_precision(logits, target)[0] == pytest.approx(sum(each) / len(each), rel=1e-12)
    f1 = f1_score(target, logits.argmax(-1), average="macro", zero_division=0.0)
    assert macro_f1(logits, target) == pytest.approx(f1, rel=1e-12)
    assert float(accuracy(logits, target)) == pytest.approx(accuracy_score(target, logits.argmax(-1)), rel=1e-12)


def test_scores_of_single_labels_are_those_of_scikit_learn_and_their_means_those_of_all():
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(40, 5, generator=generator).round(decimals=1)
    target = (torch.rand(40, 5, generator=generator) < 0.3).float()
    target[:, 3:] = 0
    outputs[:, 4] = -1
    precision, f1 = label_scores(outputs, target)
    expected = [average_precision_score(target[:, c], outputs[:, c]) for c in range(3)]
    np.testing.assert_allclose(precision, [*expected, np.nan, np.nan], rtol=1e-12)
    expected = [f1_score(target[:, c], outputs[:, c] > 0, zero_division=0.0) for c in range(4)]
    np.testing.assert_allclose(f1, [*expected, np.nan], rtol=1e-12)
    assert label_average_precision(outputs, target) == (pytest.approx(np.nanmean(precision), rel=1e-12), 2)
    assert label_f1(outputs, target) == pytest.approx(np.nanmean(f1), rel=1e-12)
