from __future__ import annotations

import pytest

from amr.fusion.report.read import read_results
from amr.fusion.report.settings import settings_of
from amr.fusion.report.words import summary


def text_of(folder):
    results = read_results(folder)
    return " ".join(summary(results, settings_of(results))).replace("\N{NO-BREAK SPACE}", " ")


def test_the_text_says_what_the_head_relies_on_and_that_the_shares_disagree(made):
    text = text_of(made())
    assert "10 fitted heads on gone" in text
    assert "Joint training (no AMR) is right on 80.5 % of the test clips" in text
    assert "It relies most on audio: permuting audio costs 50.0 points of accuracy, permuting video costs 5.0" in text
    assert "Attribution splits its decisions 70/30 (audio/video), while the costs of permuting split 91/9" in text
    assert "21 points apart" in text
    assert "AMR 1:1 moved the shares from 70/30 to 50/50" in text


def test_without_a_paired_test_no_difference_is_reported(made):
    text = text_of(made())
    assert "No paired test compares AMR with none here" in text
    assert "differs" not in text


@pytest.mark.parametrize("p", [0.05, 0.2, 1.0])
def test_a_difference_that_is_not_significant_is_not_reported(made, p):
    text = text_of(made(p_corrected=p))
    assert "none of 2 AMR settings can be distinguished from no AMR" in text
    assert "differs" not in text
    assert "the tests find" not in text


def test_a_difference_that_the_tests_find_is_reported_with_its_sign(made):
    text = text_of(made(p_corrected=0.0123))
    assert "Accuracy differs from no AMR in 2 of 2 settings" in text
    assert "AMR 1:1 by \N{MINUS SIGN}10.0 points (corrected p .012)" in text
    assert "robustness to noise in audio \N{MINUS SIGN}0.100 (corrected p .012)" in text


@pytest.mark.parametrize("p", [0.0123, 0.5])
def test_nothing_is_praised(made, p):
    text = text_of(made(p_corrected=p)).lower()
    assert not {"better", "improves", "significant", "helps"} & set(text.replace(",", " ").replace(".", " ").split())
