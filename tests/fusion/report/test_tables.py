from __future__ import annotations

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
    assert rows["no AMR"]["share audio/video"].text == "70/30"
    assert rows["no AMR"]["perceptual audio/video"].text == "50/5"
    assert rows["no AMR"]["accuracy"].value == pytest.approx(0.805)
    assert rows["audio only"]["share audio/video"].value is None


def test_an_evaluation_adds_columns_and_tests(made):
    results = read_results(made(p_corrected=0.03))
    table = headline(results, settings_of(results))
    assert {"Shapley share audio/video", "gain over UME"} <= set(table.columns)
    main, every = comparison_tables(results)
    assert (len(main.rows), len(every.rows)) == (4, 6)
    assert {row[-1].text for row in main.rows} == {".030"}


def test_the_tests_of_a_table_are_used_without_an_evaluation(made):
    folder = made()
    test = '{"difference": 0.01, "d": 0.5, "p": 0.2, "p_holm": 0.4}'
    (folder / "table.json").write_text(f'[{{"method": "naive", "tests": {{"map": {test}, "accuracy": {test}}}}}]')
    (table,) = comparison_tables(read_results(folder))
    assert [row[1].text for row in table.rows] == ["mAP", "accuracy"]


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_a_missing_number_is_a_dash_that_sorts_last(value):
    ((cell,),) = make_table("t", "c", ["x"], [[value]]).rows
    assert (cell.text, cell.value) == ("\N{EN DASH}", None)
