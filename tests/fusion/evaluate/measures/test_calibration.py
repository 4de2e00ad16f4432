import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from amr.fusion.evaluate.measures.calibration import calibration_error
from amr.fusion.evaluate.scores import join, score


@pytest.fixture
def predictions():
    draws = torch.Generator().manual_seed(0)
    return 2 * torch.randn(2, 40, 4, generator=draws), torch.arange(40) % 4


def test_nll_and_brier_agree_with_scikit_learn(predictions):
    logits, target = predictions
    scores = score(logits, target)
    p = logits.double().softmax(-1).numpy()
    for run in range(2):
        assert float(scores.nll[run].mean()) == pytest.approx(log_loss(target, p[run]), rel=1e-5)
        squares = ((p[run] - np.eye(4)[target]) ** 2).sum(-1)
        np.testing.assert_allclose(scores.brier[run], squares, rtol=1e-4, atol=1e-6)


def test_the_calibration_error_agrees_with_a_literal_loop(predictions):
    scores = score(*predictions)
    weights = np.random.default_rng(0).integers(0, 3, 40).astype(float)
    result = calibration_error(scores.confidence.numpy(), scores.correct.numpy(), weights)
    for run in range(2):
        bins = {}
        for confidence, correct, weight in zip(scores.confidence[run], scores.correct[run], weights, strict=True):
            bins.setdefault(min(int(confidence * 15), 14), []).append((float(confidence), float(correct), weight))
        expected = 0
        for entries in bins.values():
            c, r, w = map(np.array, zip(*entries, strict=True))
            if w.sum() > 0:
                expected += w.sum() / weights.sum() * abs((w * r).sum() / w.sum() - (w * c).sum() / w.sum())
        assert result[run] == pytest.approx(expected)


def test_a_head_that_is_certain_and_right_is_calibrated():
    assert calibration_error(np.ones((1, 3)), np.ones((1, 3)), np.ones(3)) == 0
    assert calibration_error(np.ones((1, 3)), np.zeros((1, 3)), np.ones(3)) == 1


def test_draws_are_averaged_in_nll_and_brier_and_separate_in_confidence(predictions):
    logits, target = predictions
    both = join([score(logits, target), score(logits.flip(1), target)])
    assert both.confidence.shape == (2, 40, 2)
    torch.testing.assert_close(both.nll, (score(logits, target).nll + score(logits.flip(1), target).nll) / 2)
