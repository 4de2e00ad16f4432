from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from amr.fusion.report.plots.picture import of_all, whiskers, wide_enough
from amr.fusion.report.read import read_results
from amr.fusion.report.sections import sections
from amr.fusion.report.sections.balance import (
    accuracy_against_share,
    accuracy_against_use,
    pareto,
    share_against_use,
)
from amr.fusion.report.sections.curves import missing, noise, training
from amr.fusion.report.sections.decisions.by_class import per_class
from amr.fusion.report.sections.decisions.confusion import confusion
from amr.fusion.report.sections.people import against_people, followed
from amr.fusion.report.settings import settings_of, shown


def results_and_settings(folder):
    results = read_results(folder)
    return results, settings_of(results)


def test_every_picture_has_a_description_and_its_numbers(made):
    results, settings = results_and_settings(made(people=True))
    pictures = [picture for _, make in sections.items() if (picture := make(results, settings)) is not None]
    assert (
        len(pictures) == len(list(sections)) - 4
    )  # a sweep of fits has no frontier, methods, numbers or trained encoders
    assert len({picture.name for picture in pictures}) == len(pictures)
    for picture in pictures:
        assert picture.alt.endswith(".")
        assert len(picture.alt) > 20
        assert picture.table.rows
        assert (picture.choice != "") == (len(picture.plots) > 1)
        for plot in picture.plots.values():
            json.dumps(plot, allow_nan=False)
            assert "template" not in plot["layout"]


def test_pictures_without_an_evaluation_are_left_out(made):
    results, settings = results_and_settings(made())
    assert [make(results, settings) for make in (missing, noise, per_class, confusion, followed)] == [None] * 5
    assert against_people(results, settings) == []
    assert all(make(results, settings) is not None for make in (accuracy_against_share, share_against_use, training))


def test_the_points_of_accuracy_against_share_are_the_numbers_of_its_table(made):
    results, settings = results_and_settings(made())
    picture = accuracy_against_share(results, settings)
    rows = {row[0].text: (row[1].value, row[2].value) for row in picture.table.rows}
    points = [trace for trace in picture.plots[""]["data"] if (trace.get("name") or "")[:1].isdigit()]
    drawn = {trace["name"].split("  ")[1]: (trace["x"][0], trace["y"][0]) for trace in points if len(trace["x"]) == 1}
    assert drawn == {name: rows[name] for name in ("no AMR", "AMR audio=1:video=1", "AMR audio=1:video=3", "UME")}
    assert {row[0].text for row in picture.table.rows if row[5].text == "yes"} == {"no AMR", "AMR audio=1:video=1"}


def test_only_settings_without_a_share_are_said_to_have_none(made):
    results, settings = results_and_settings(made())
    for make in (accuracy_against_use, accuracy_against_share):
        picture = make(results, settings)
        known = {row[0].text for row in picture.table.rows if row[1].value is not None}
        words = picture.caption.rpartition("No points, as they have no ")[2]
        assert [label for label in ("audio only", *known) if label in words] == ["audio only"]
        assert "UME" in known
    runs = sections["runs"](results, settings)
    columns = [runs.table.columns.index(f"{kind} of audio") for kind in ("share", "use share")]
    of_ume = [row for row in runs.table.rows if row[1].text == "UME"]
    assert of_ume
    assert all(row[column].value is not None for row in of_ume for column in columns)


def test_a_caption_speaks_of_seeds_arrows_and_lines_only_if_there_are_any(made, pages):
    ratios = accuracy_against_share(*results_and_settings(made("one", seeds=1))).caption
    assert "seeds" not in ratios
    assert "Arrows" not in ratios
    assert "Lines join settings that differ in the ratio only." in ratios
    table = accuracy_against_share(*results_and_settings(pages["table"].parent.parent / "table")).caption
    assert "One point per setting, mean over seeds, hollow" in table
    assert "Arrows lead from a setting without AMR to the same one with it." in table
    assert "Lines join" not in table


def test_a_picture_of_some_settings_names_the_reference_and_counts_the_others(made):
    _, settings = results_and_settings(made())
    joint = [setting for setting in settings if setting.fuses]
    assert of_all(joint, settings) == of_all(joint, joint) == ""
    words = " Of 3 settings with a joint head, the picture has no AMR and the 1 best on val."
    assert of_all(shown(settings, 2), settings) == words
    others = [setting for setting in joint if setting.label != "no AMR"]
    assert of_all(others[:1], joint) == " Of 3 settings with a joint head, the picture has the 1 best on val."


def test_a_confusion_matrix_counts_every_clip_once(made):
    results, settings = results_and_settings(made(p_corrected=1.0))
    picture = confusion(results, settings)
    assert sum(row[2].value for row in picture.table.rows) == 30
    assert np.sum(picture.plots[""]["data"][0]["text"]) == 30


def test_share_use_share_and_shapley_use_share_are_those_of_the_evaluation(made):
    results, settings = results_and_settings(made(p_corrected=1.0))
    picture = share_against_use(results, settings)
    assert picture.table.columns == ("setting", "modality", "share", "use share", "Shapley use share")
    assert [cell.text for cell in picture.table.rows[0]] == ["no AMR", "audio", "0.700", "0.909", "0.900"]
    names = [trace["name"] for trace in picture.plots["audio"]["data"] if trace["mode"] == "markers"]
    assert names == ["share", "use share", "Shapley use share"]


def test_the_picture_holds_shapley_use_shares_outside_0_to_1_and_balance_is_an_equal_part(made):
    results, settings = results_and_settings(made(p_corrected=1.0))
    for run in results.runs:
        run.measures["shapley_use_share.audio"] = 1.4
    layout = share_against_use(results, settings).plots["audio"]["layout"]
    assert layout["xaxis"]["range"][1] > 1.4
    assert layout["shapes"][0]["x0"] == 0.5


def test_tables_of_people_are_those_of_evaluate_with_the_settings_of_the_page(made):
    results, settings = results_and_settings(made(people=True))
    followed_by, agreement = against_people(results, settings)
    assert followed_by.caption == (
        "Follows, on the 9 test clips on which voice and face differ for people. Fractions of 1, mean over seeds."
    )
    assert followed_by.columns == ("setting", "voice", "face", "neither")
    assert [[cell.text for cell in row] for row in followed_by.rows[:2]] == [
        ["people", "0.200", "0.600", "0.100"],
        ["AMR audio=1:video=1", "0.600", "0.300", "0.100"],
    ]
    assert agreement.columns == ("setting", "voice", "both", "distance to both")
    assert [cell.text for cell in agreement.rows[0]] == ["the label", "0.700", "0.900", "\N{EN DASH}"]


def test_robustness_is_shown_as_a_ratio(made):
    results, settings = results_and_settings(made(p_corrected=1.0))
    picture = noise(results, settings)
    assert picture.table.columns == ("setting", "noise in", "0 sd", "0.5 sd", "1 sd", "robustness")
    assert [cell.text for cell in picture.table.rows[0]] == ["no AMR", "audio", "0.800", "0.700", "0.500", "0.840"]
    assert "ratio to the clean accuracy" in picture.table.caption


def test_alone_is_the_accuracy_with_the_others_at_their_train_mean(made):
    results, settings = results_and_settings(made(p_corrected=1.0))
    bars = {words: plot["data"][0]["x"] for words, plot in missing(results, settings).plots.items()}
    assert bars["their train mean"] == ["audio alone", "video alone", "audio + video"]
    assert bars["zero"] == ["audio only", "video only", "audio + video"]


def test_whiskers_are_drawn_only_where_there_is_an_interval(made):
    results, settings = results_and_settings(made())
    picture = accuracy_against_share(results, settings)
    points = [trace for trace in picture.plots[""]["data"] if "error_y" in trace]
    assert not any(trace["error_y"]["visible"] for trace in points)  # two seeds
    assert "whiskers" not in picture.caption
    names = [each["text"] for each in picture.plots[""]["layout"]["meta"]["labels"]]
    assert names == ["no AMR", "AMR audio=1:video=1", "AMR audio=1:video=3", "UME"]
    assert whiskers([0.1, None])["visible"]


def test_no_text_of_a_picture_has_percents_or_other_names(made):
    results, settings = results_and_settings(made(p_corrected=0.01, people=True))
    pictures = [picture for _, make in sections.items() if (picture := make(results, settings)) is not None]
    for picture in pictures:
        table = picture.table
        texts = [picture.title, picture.caption, picture.alt, picture.choice, *picture.plots, table.caption]
        texts += [*table.columns, *(cell.text for row in table.rows for cell in row), json.dumps(picture.plots)]
        found = " ".join(texts).replace("95 % interval", "").replace("± (95 %)", "").replace("</script>", "").lower()
        for word in ("%}<", "0%", "1%", "\N{NO-BREAK SPACE}%", "percept", "permuting", "shuffl", "dominan", "noisy"):
            assert word not in found, (picture.name, word)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12))
def test_no_point_beats_the_front_and_the_front_beats_all_others(points):
    front = pareto(points)
    assert front

    def beats(a, b):
        return a[0] <= b[0] and a[1] >= b[1] and a != b

    for i, point in enumerate(points):
        assert (i in front) == (not any(beats(other, point) for other in points))
        assert i in front or any(beats(points[k], point) for k in front)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_a_range_contains_its_values_and_is_not_narrow(values):
    low, high = wide_enough(values)
    assert 0 <= low <= min(values) + 1e-6
    assert max(values) - 1e-6 <= high <= 1
    assert high - low >= 0.1 - 1e-6


def test_shares_that_no_clip_has_are_no_empty_picture(made):
    results, settings = results_and_settings(made(p_corrected=0.5))
    results.__dict__["decisions"] = replace(results.decisions, shares=np.full_like(results.decisions.shares, np.nan))
    assert per_class(results, settings) is None
