from __future__ import annotations

import pytest

from amr.fusion.report.read import read_results
from amr.fusion.report.sections.methods import methods
from amr.fusion.report.settings import settings_of

from ..conftest import make_table


@pytest.fixture
def picture(pages):
    results = read_results(pages["table"].parent.parent / "table")
    return methods(results, settings_of(results))


def test_each_method_is_a_row_with_a_point_without_and_one_with_amr(picture):
    rows = [(row[0].text, row[1].text) for row in picture.table.rows]
    names = ("naive", "dropout", "ogm-ge", "umt", "gradient-blending")
    assert rows == [
        *((name, half) for name in names for half in ("without AMR", "with AMR")),
        ("audio only", "without AMR"),
    ]
    values = {row[:2]: cells for row, cells in zip(rows, picture.table.rows, strict=True)}
    assert values["naive", "without AMR"][2].value == pytest.approx(0.71)
    assert values["naive", "with AMR"][2].value == pytest.approx(0.70)
    points = {trace["name"]: trace for trace in picture.plots["accuracy"]["data"] if "error_x" in trace}
    assert [*points] == ["without AMR", "with AMR"]
    assert [*points["without AMR"]["y"]] == [*points["with AMR"]["y"]] == [*names]
    assert points["without AMR"]["x"][0] == pytest.approx(0.71)
    assert all(len(trace["x"]) == 5 and None not in trace["x"] for trace in points.values())
    assert [trace["marker"]["symbol"] for trace in points.values()] == ["circle-open", "square"]


def test_a_single_modality_is_in_words_so_that_it_does_not_squeeze_the_others(picture):
    (value,) = [row[2].text for row in picture.table.rows if row[0].text == "audio only"]
    assert f"Accuracy of audio only {value}." in picture.caption
    assert "audio only" not in str([*picture.plots.values()])


def test_the_caption_names_intervals_and_tests_only_if_the_page_has_them(picture, tmp_path):
    assert "One row per method, mean over seeds with 95 % intervals: hollow" in picture.caption
    assert "The paired tests are under Statistics." in picture.caption
    two, one = (make_table(tmp_path / str(seeds), seeds=seeds) for seeds in (2, 1))
    results = read_results(two)
    caption = methods(results, settings_of(results)).caption
    assert "One row per method, mean over seeds: hollow" in caption
    assert "The changes are under Statistics." in caption
    (one / "table.json").unlink()  # a sweep
    results = read_results(one)
    caption = methods(results, settings_of(results)).caption
    assert "One row per method: hollow" in caption
    assert "Statistics" not in caption


def test_use_share_and_share_have_the_line_of_balance(picture):
    assert {*picture.plots} == {"accuracy", "mAP", "use share of audio", "share of audio"}
    for words, plot in picture.plots.items():
        lines = [shape["x0"] for shape in plot["layout"].get("shapes", ())]
        assert lines == ([0.5] if "share" in words else [])
    # a single modality shares nothing
    assert "audio only" not in str(picture.plots["share of audio"]["data"])


def test_ratios_are_no_table_of_methods(made):
    results = read_results(made())
    assert methods(results, settings_of(results)) is None
