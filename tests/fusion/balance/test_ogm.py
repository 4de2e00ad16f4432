"""Who leads, and the factors both ways: the formulas in float64, and what a missing modality must not change."""

import math

import pytest
import torch

from amr.fusion.balance import mlb_coefficients, score_ratios, share_ratios


@pytest.mark.parametrize("beta", [1.0, 2.0, 10.0])
def test_factors_both_ways_are_the_paper_s(beta):
    scores = 0.6, 0.2
    ratios = torch.tensor([scores[0] / scores[1], scores[1] / scores[0]], dtype=torch.float64)
    found = mlb_coefficients(ratios, alpha=0.5, beta=beta)
    leads = 1 + math.tanh(0.5 * (scores[1] / scores[0] - 1))
    behind = 1 + (beta - 1) * math.tanh(0.5 * (scores[0] / scores[1] - 1))
    assert found.tolist() == pytest.approx([leads, behind], rel=1e-12)
    torch.testing.assert_close(mlb_coefficients(ratios.flip(0), 0.5, beta), found.flip(0))


def test_factors_stay_within_their_limits():
    ratios = torch.tensor([0.0, 1e-30, 0.3, 1.0, 7.0, 1e30])
    found = mlb_coefficients(ratios, alpha=0.8, beta=4.0)
    assert found.tolist() == pytest.approx(
        [4, 4, 1 + 3 * math.tanh(0.8 * (1 / 0.3 - 1)), 1, 1.0 + math.tanh(-0.8 * 6 / 7), 1 - math.tanh(0.8)]
    )
    assert mlb_coefficients(ratios, alpha=0.0).tolist() == [1] * 6


def test_shares_of_two_modalities_give_their_ratio_and_swap_with_them():
    audio = torch.tensor([0.9, 0.4, 0.7], dtype=torch.float64)
    share, counted = torch.stack([audio, 1 - audio], dim=-1), torch.ones(3, dtype=torch.bool)
    ratios = share_ratios(share, counted)
    assert ratios.tolist() == pytest.approx([2 / 1, 1 / 2])
    torch.testing.assert_close(share_ratios(share.flip(-1), counted), ratios.flip(0))


def test_a_modality_does_not_lead_because_others_are_missing_beside_it():
    present = torch.tensor([[True, True, True], [True, True, False]])
    even = present / present.sum(-1, keepdim=True)
    assert share_ratios(even, torch.tensor([True, True]), present).tolist() == pytest.approx([1, 1, 1])


def test_clips_that_lack_a_modality_or_a_share_do_not_count():
    present = torch.tensor([[True, True, True], [True, False, True], [True, False, False]])
    share = torch.tensor([[0.5, 0.2, 0.3], [0.6, 0.0, 0.4], [0.0, 0.0, 0.0]], dtype=torch.float64)
    counted = torch.tensor([True, True, False])
    audio, text, video = (3 * 0.5 + 2 * 0.6) / 2, 3 * 0.2, (3 * 0.3 + 2 * 0.4) / 2
    expected = [2 * audio / (text + video), 2 * text / (audio + video), 2 * video / (audio + text)]
    assert share_ratios(share, counted, present).tolist() == pytest.approx(expected, rel=1e-12)
    runs = share_ratios(share.expand(4, 3, 3), counted.expand(4, 3), present.expand(4, 3, 3))
    torch.testing.assert_close(runs, torch.tensor(expected, dtype=torch.float64)[:, None].expand(3, 4))
    nothing = share_ratios(share, torch.zeros(3, dtype=torch.bool), present)
    assert nothing.tolist() == [1, 1, 1]
    assert score_ratios(torch.zeros(3, 3, 2), torch.zeros(3, dtype=torch.long), present & False).tolist() == [1, 1, 1]


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_in_a_tie_no_modality_leads(size):
    """Also where the mean of equal scores is not equal to them, by rounding."""
    for seed in range(100):
        draws = torch.Generator().manual_seed(seed)
        out, target = (
            torch.randn(1, 7, 3, generator=draws).expand(size, -1, -1),
            torch.randint(3, (7,), generator=draws),
        )
        assert score_ratios(out, target).tolist() == [1] * size
    never_right = torch.tensor([[-200.0, 0.0]]).expand(size, 1, 2)
    assert score_ratios(never_right, torch.tensor([0])).tolist() == [1] * size
