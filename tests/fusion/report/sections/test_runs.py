from __future__ import annotations

import pytest

from amr.fusion.report.read import read_results
from amr.fusion.report.sections.runs import runs
from amr.fusion.report.settings import settings_of


def test_every_run_is_a_line_and_a_row_with_its_settings_and_results(made):
    results = read_results(made())
    picture = runs(results, settings_of(results))
    columns = picture.table.columns
    assert {"method", "learning rate", "epochs", "batch size", "seed", "AMR ratio", "attribution"} <= {*columns}
    rows = {row[0].text: dict(zip(columns, (cell.text for cell in row), strict=True)) for row in picture.table.rows}
    assert {*rows} == {run.name for run in results.runs}
    row = rows["naive_audio+video_1-1_1"]
    assert (row["AMR ratio"], row["seed"], row["accuracy"]) == ("1:1", "1", "0.790")
    assert row["attribution"] == "gradient x input"
    plot = picture.plots[""]
    lines = [trace for trace in plot["data"] if trace["type"] == "scatter"]
    assert len(lines) == len(plot["layout"]["meta"]["rows"]) == len(results.runs)
    axes = [text.split("<br>")[0] for text in plot["layout"]["yaxis"]["ticktext"]]
    for line, name in zip(lines, plot["layout"]["meta"]["rows"], strict=True):
        values = [float(rows[other]["accuracy"]) for other in rows]
        part = (float(rows[name]["accuracy"]) - min(values)) / (max(values) - min(values))
        assert line["x"][axes.index("accuracy")] == pytest.approx(part, abs=1e-6)


def test_only_what_differs_is_an_axis_and_a_filter(made):
    results = read_results(made())
    picture = runs(results, settings_of(results))
    assert picture.filters == ("setting", "method", "modalities", "AMR ratio", "seed")


def test_one_run_has_no_picture(made):
    alone = read_results(made() / "runs" / "naive_audio+video_None_0")
    assert runs(alone, settings_of(alone)) is None
