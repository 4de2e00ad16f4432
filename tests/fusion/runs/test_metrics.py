import pytest
import torch
from torch import tensor

from amr.fusion.runs.metrics import accuracy, macro_f1, mean_average_precision

SCORES = tensor([[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.3, 0.6, 0.1], [0.2, 0.7, 0.1]])
TARGET = tensor([0, 0, 1, 1])


def test_metrics_of_four_clips():
    assert float(accuracy(SCORES, TARGET)) == 0.75
    value, left_out = mean_average_precision(SCORES, TARGET)
    assert (value, left_out) == (1.0, 1)  # both classes are ranked perfectly; the third has no clip
    assert macro_f1(SCORES, TARGET) == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_average_precision_of_a_wrong_ranking():
    scores = tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    value, _ = mean_average_precision(scores, tensor([0, 1, 0]))
    assert value == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2) / 2)


def test_accuracy_has_one_value_per_run():
    stacked = torch.stack([SCORES, SCORES.flip(-1)])
    torch.testing.assert_close(accuracy(stacked, TARGET), tensor([0.75, 0.5], dtype=torch.float64))
