"""Checks of every registered section of the page, those of other people's files included."""

from __future__ import annotations

import json
import re

import pytest

from amr.fusion.report.read import read_results
from amr.fusion.report.sections import ORDER, sections
from amr.fusion.report.settings import settings_of

every_section = pytest.mark.parametrize("name", list(sections))


def test_the_page_has_an_order_of_sections_that_exist():
    assert set(ORDER) <= set(sections)


@every_section
@pytest.mark.parametrize("evaluation", [{}, {"p_corrected": 0.01, "people": True}], ids=["fitted", "evaluated"])
def test_a_picture_has_words_a_table_and_plots_that_are_json(made, name, evaluation):
    results = read_results(made(**evaluation))
    picture = sections[name](results, settings_of(results))
    if picture is None:
        # an evaluated sweep has something for all sections but those of a frontier, a table, numbers, and encoders
        assert not evaluation or name in ("frontier", "encoders", "methods", "numbers")
        return
    assert re.fullmatch(r"[a-z0-9-]+", picture.name)
    assert picture.title
    assert picture.caption.endswith(".")
    assert picture.alt.endswith(".")
    assert picture.table.rows
    assert picture.plots
    assert bool(picture.choice) == (len(picture.plots) > 1)
    for plot in picture.plots.values():
        assert "NaN" not in json.dumps(plot, allow_nan=False)
        assert plot["data"]


@every_section
def test_one_setting_of_one_run_is_enough_or_gives_nothing(made, name):
    results = read_results(made())
    alone = read_results(results.runs[0].folder)
    picture = sections[name](alone, settings_of(alone))
    assert picture is None or picture.table.rows


def test_names_of_pictures_differ(made):
    results = read_results(made(p_corrected=0.01, people=True))
    pictures = [make(results, settings_of(results)) for _, make in sections.items()]
    names = [picture.name for picture in pictures if picture is not None]
    assert len(names) == len(set(names))
