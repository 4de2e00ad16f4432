from __future__ import annotations

import json
import math

import pytest

from amr.fusion.report.read import read_results
from amr.fusion.report.settings import settings_of
from amr.fusion.report.tables import comparison_tables, headline, make_table


def test_the_headline_has_one_row_per_setting_and_a_dash_for_missing_values(made):
    results = read_results(made())
    table = headline(results, settings_of(results))
    assert "gain over UME" not in table.columns
    rows = {row[0].text: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert rows["no AMR"]["share audio/video"].text == "0.70/0.30"
    assert rows["no AMR"]["use audio/video"].text == "0.50/0.05"
    assert rows["no AMR"]["accuracy"].text == "0.805"
    assert rows["no AMR"]["accuracy"].value == pytest.approx(0.805)
    assert rows["no AMR"]["share spread audio/video"].text == "0.12/0.12"
    assert rows["no AMR"]["one-sided"].text == "0.400"
    assert table.notes["one-sided"].startswith("fraction of the clips whose share is more than 0.1 from the ratio")
    assert table.notes["share spread audio/video"].startswith("standard deviation of the share over the clips")
    assert rows["audio only"]["share audio/video"].value is None
    assert rows["audio only"]["one-sided"].value is None


def test_an_evaluation_adds_columns_and_tests(made):
    results = read_results(made(p_corrected=0.03))
    table = headline(results, settings_of(results))
    assert {"Shapley use share audio/video", "gain over UME"} <= set(table.columns)
    assert table.rows[0][table.columns.index("Shapley use share audio/video")].text == "0.90/0.10"
    assert table.rows[0][table.columns.index("gain over UME")].text == "+0.050"
    main, every = comparison_tables(results)
    assert (len(main.rows), len(every.rows)) == (6, 8)
    assert {row[-1].text for row in main.rows} == {".030"}


def test_robustness_and_balance_are_defined_where_they_are_shown(made):
    main, _ = comparison_tables(read_results(made(p_corrected=0.03)))
    assert main.rows[1][1].text == "robustness (ratio to the clean accuracy) to noise in audio"
    assert "a ratio, 1 if noise costs nothing" in main.notes["robustness"]
    assert main.notes["balance under conflict"].startswith("1 - |p_a - p_b| / (p_a + p_b)")


def test_columns_that_no_run_has_are_left_out(made):
    folder = made()
    for file in folder.rglob("metrics.json"):
        metrics = json.loads(file.read_text())
        for measures in metrics.values():
            del measures["share_spread"], measures["one_sided"]
        file.write_text(json.dumps(metrics))
    results = read_results(folder)
    assert not {"share spread audio/video", "one-sided"} & set(headline(results, settings_of(results)).columns)


@pytest.mark.parametrize(
    ("seeds", "evaluation", "accuracy", "caption"),
    [
        (1, {}, "0.800", "fractions of 1: one seed; no interval: fewer than 3 seeds."),
        (2, {}, "0.805", "fractions of 1: mean over 2 seeds; no interval: fewer than 3 seeds."),
        (3, {}, "0.810 ± 0.025", "mean over 3 seeds ± half of the 95 % interval over seeds. "),
    ],
)
def test_below_three_seeds_no_interval_is_shown_and_it_is_said_once(made, seeds, evaluation, accuracy, caption):
    results = read_results(made(seeds=seeds, **evaluation))
    table = headline(results, settings_of(results))
    assert table.rows[0][table.columns.index("accuracy")].text == accuracy
    assert caption in table.caption


def test_a_measure_that_a_file_has_under_two_names_is_compared_once(made):
    folder = made(p_corrected=0.03)
    document = json.loads((folder / "evaluation.json").read_text())
    test = document["comparisons"][0]
    for name in ("alone.audio", "missing.mean.audio", "shapley_share.permutation.audio", "missing.mean.audio+video"):
        document["comparisons"].append({**test, "measure": name})
    (folder / "evaluation.json").write_text(json.dumps(document))
    names = [test["measure"] for test in read_results(folder).comparisons[8:]]
    assert names == ["alone.audio", "shapley_use_share.audio", "missing.mean.audio+video"]


def test_the_tests_of_a_table_are_used_without_an_evaluation(made):
    folder = made(seeds=3)
    test = '{"difference": 0.01, "d": 0.5, "p": 0.2, "p_holm": 0.4}'
    (folder / "table.json").write_text(f'[{{"method": "naive", "tests": {{"map": {test}, "accuracy": {test}}}}}]')
    (table,) = comparison_tables(read_results(folder))
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["naive", "mAP", "+0.010", "+0.500", ".200", ".400"],
        ["naive", "accuracy", "+0.010", "+0.500", ".200", ".400"],
    ]


def test_tests_of_two_pairs_are_not_shown_and_the_caption_says_why(made):
    """A file of version 0.1 has them."""
    folder = made(p_corrected=0.03)
    document = json.loads((folder / "evaluation.json").read_text())
    document["comparisons"] = [{**test, "num_pairs": 2} for test in document["comparisons"]]
    (folder / "evaluation.json").write_text(json.dumps(document))
    test = '{"difference": 0.01, "d": -548.0, "p": 0.0001, "p_holm": 0.0002}'
    (folder / "table.json").write_text(f'[{{"method": "naive", "tests": {{"map": {test}, "accuracy": {test}}}}}]')
    why = "Rows without p: 2 pairs are too few for a paired test, which needs three."
    dash = "\N{EN DASH}"
    for table in comparison_tables(read_results(folder)):
        assert {tuple(cell.text for cell in row[4:]) for row in table.rows} == {(dash, dash, "2", "-", "-")}
        assert why in table.caption
    (folder / "evaluation.json").unlink()
    (table,) = comparison_tables(read_results(folder))
    assert {tuple(cell.text for cell in row[2:]) for row in table.rows} == {("+0.010", dash, "-", "-")}
    assert why in table.caption


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_a_missing_number_is_a_dash_that_sorts_last(value):
    ((cell,),) = make_table("t", "c", ["x"], [[value]]).rows
    assert (cell.text, cell.value) == ("\N{EN DASH}", None)
