from __future__ import annotations

import json

import pytest

from amr.fusion.report.read import read_results
from amr.fusion.report.settings import settings_of
from amr.fusion.report.text.words import summary, terms, warnings


def text_of(folder):
    results = read_results(folder)
    return " ".join(summary(results, settings_of(results))).replace("\N{NO-BREAK SPACE}", " ")


def test_the_text_says_what_the_head_relies_on_and_that_the_shares_disagree(made):
    text = text_of(made())
    assert "10 fitted heads on gone" in text
    assert "Joint training (no AMR) has accuracy 0.805 on the test clips; UME 0.755, audio only 0.725." in text
    assert "It relies most on audio: use of audio 0.500, use of video 0.050 (accuracy lost if" in text
    assert "Its shares, by attribution, are 0.70/0.30 (audio/video), its use shares 0.91/0.09" in text
    assert "0.21 apart for audio" in text
    assert (
        "AMR audio=1:video=1 moved the shares from 0.70/0.30 to 0.50/0.50 (audio/video), "
        "and use from 0.50/0.05 to 0.45/0.10."
    ) in text


def test_of_several_settings_with_amr_the_text_says_why_one_is_reported(pages, made):
    text = text_of(pages["table"].parent.parent / "table")
    assert (
        "Of 5 settings with AMR and an even ratio, gradient-blending · AMR audio=1:video=1 is best on val. It" in text
    )
    assert "best on val. It" not in text_of(made())


def test_numbers_are_fractions_and_use_has_no_other_name(made):
    for folder in (made("plain"), made("evaluated", seeds=3, p_corrected=0.01)):
        text = text_of(folder).replace("95 % interval", "").lower()
        for word in ("%", "points", "percept", "permuting", "shuffl", "dominan", "noisy"):
            assert word not in text


def test_from_three_seeds_on_there_is_an_interval(made):
    assert "0.810 on the test clips (95 % interval over seeds 0.785 to 0.835)" in text_of(made("three", seeds=3))
    assert "interval" not in text_of(made("two"))


def test_the_measures_that_the_text_names_are_defined(made):
    assert terms(read_results(made("none", p_corrected=0.5))) == {}
    assert list(terms(read_results(made("some", p_corrected=0.01)))) == ["robustness", "balance under conflict"]


def test_warnings_are_those_of_the_runs_each_once(made):
    folder = made(seeds=1)
    for file in folder.glob("runs/*/config.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"warnings": ["only 9 test clips"]}))
    results = read_results(folder)
    found = warnings(results, settings_of(results))
    assert found == ["only 9 test clips"]
    missed = next(folder.glob("runs/*1-3*/metrics.json"))
    metrics = json.loads(missed.read_text())
    metrics["val"]["share_regularized"] = {"audio": 0.6, "video": 0.4}
    missed.write_text(json.dumps(metrics))
    results = read_results(folder)
    _, text = warnings(results, settings_of(results))
    assert text.startswith(
        "AMR audio=1:video=3, seed 0: the ratio audio=1:video=3 was not reached: shares 0.60/0.40 for 0.25/0.75 on val."
    )
    alone = read_results(missed.parent)
    assert warnings(alone, settings_of(alone))[1].startswith("the ratio audio=1:video=3 was not reached")


def test_without_a_paired_test_no_difference_is_reported(made):
    text = text_of(made())
    assert "Paired tests of all settings, corrected for their number, are not here" in text
    assert "differs" not in text


def test_tests_of_a_table_are_reported_with_their_pairs(made):
    folder = made("three", seeds=3)
    tests = {"naive": {"p_holm": 0.012, "difference": -0.1}, "ogm": {"p_holm": 0.4, "difference": 0.02}}
    rows = [{"method": name, "tests": {"accuracy": test}} for name, test in tests.items()]
    (folder / "table.json").write_text(json.dumps(rows))
    text = text_of(folder)
    assert (
        "By the tests under Statistics, paired by seed and corrected over the methods, AMR changes accuracy of 1 of 2 "
        "methods: naive by \N{MINUS SIGN}0.100 (p .012)."
    ) in text
    assert "are not here" not in text
    (folder / "table.json").write_text(json.dumps(rows[1:]))
    assert "a change of accuracy by AMR is found in none of 1 method (smallest corrected p .400)." in text_of(folder)


def test_a_table_of_two_seeds_and_an_evaluation_of_two_pairs_are_not_tested(made):
    folder = made(p_corrected=0.01)
    document = json.loads((folder / "evaluation.json").read_text())
    document["comparisons"] = [{**test, "num_pairs": 2} for test in document["comparisons"]]
    (folder / "evaluation.json").write_text(json.dumps(document))
    why = "2 pairs are too few for a paired test, which needs three."
    text = text_of(folder)
    assert f"There are no paired tests: {why}" in text
    assert "distinguished" not in text
    (folder / "evaluation.json").unlink()
    test = {"difference": -0.1, "d": -548.0, "p": 0.0001, "p_holm": 0.0002}
    (folder / "table.json").write_text(json.dumps([{"method": "naive", "tests": {"accuracy": test}}]))
    text = text_of(folder)
    assert f"Under Statistics is the change of each method, paired by seed. It is not tested: {why}" in text
    assert "are not here" not in text


@pytest.mark.parametrize("p", [0.05, 0.2, 1.0])
def test_a_difference_that_is_not_significant_is_not_reported(made, p):
    text = text_of(made(p_corrected=p))
    assert "none of 2 AMR settings can be distinguished from no AMR" in text
    assert "differs" not in text
    assert "the tests find" not in text


def test_a_difference_that_the_tests_find_is_reported_with_its_sign(made):
    text = text_of(made(p_corrected=0.0123))
    assert "Accuracy differs from no AMR in 2 of 2 settings" in text
    assert "AMR audio=1:video=1 by \N{MINUS SIGN}0.100 (corrected p .012)" in text
    assert ("robustness (ratio to the clean accuracy) to noise in audio \N{MINUS SIGN}0.100 (corrected p .012)") in text


@pytest.mark.parametrize("p", [0.0123, 0.5])
def test_nothing_is_praised(made, p):
    text = text_of(made(p_corrected=p)).lower()
    assert not {"better", "improves", "significant", "helps"} & set(text.replace(",", " ").replace(".", " ").split())
