"""Heads beside people, as tables."""

from __future__ import annotations

from typing import Any

import pytest

from amr.fusion.evaluate.people.tables import people_tables

SETTING = {"head": "concat", "method": "naive", "modalities": ["audio", "video"], "amr_weight": None, "lr": 0.01}


def entry(people: Any, **changes: Any) -> dict[str, Any]:
    return SETTING | {"amr_ratio": None} | changes | {"measures": {"people": people}}


def votes(follows: float, distance: float | None = 0.5) -> dict[str, Any]:
    conflict = {
        "num_clips": 7,
        "head": {"voice": follows, "face": 1 - follows, "neither": 0.0},
        "people": {"voice": 0.25, "face": 0.5, "neither": 0.0, "tie": 0.25},
    }
    agreement = {"voice": {"head": follows, "label": 0.75}, "both": {"head": None, "label": 1.0}}
    measured = None if distance is None else {"jensen_shannon": {"head": distance}}
    return {"votes": {"conflict": conflict, "agreement": agreement, "distance": measured}, "tags": None}


def only_audio(people: dict[str, Any]) -> dict[str, Any]:
    return {"votes": people["votes"] | {"conflict": None}, "tags": None}


def test_means_over_seeds_stand_below_people_and_the_label():
    runs = [
        entry(only_audio(votes(0.5)), method="unimodal", head="-", modalities=["audio"]),
        entry(votes(0.5)),
        entry(votes(0.75)),
        entry(votes(0.25), amr_ratio="1:3", amr_weight=1.0),
    ]
    followed, agreement = people_tables({"runs": runs})
    assert followed.title == "follows, on the 7 test clips on which voice and face differ for people"
    assert followed.columns == ["setting", "voice", "face", "neither"]
    assert followed.rows == [
        ["people", 0.25, 0.5, 0.0],
        ["naive", 0.625, 0.375, 0.0],
        ["naive, AMR audio=1:video=3", 0.25, 0.75, 0.0],
    ]
    assert agreement.columns == ["setting", "voice", "both", "distance to both"]
    assert agreement.rows == [
        ["the label", 0.75, 1.0, None],
        ["audio only", 0.5, None, 0.5],
        ["naive", 0.625, None, 0.5],
        ["naive, AMR audio=1:video=3", 0.25, None, 0.5],
    ]


def test_of_several_channels_each_pair_has_a_table():
    people = votes(0.5, distance=None)
    people["votes"]["conflict"] = {
        "voice/face": people["votes"]["conflict"],
        "voice/lips": {"num_clips": 0, "head": {}},
    }
    followed, agreement = people_tables({"runs": [entry(people)]})
    assert followed.rows[1] == ["naive", 0.5, 0.5, 0.0]
    assert "distance to both" not in agreement.columns


@pytest.mark.parametrize("any_tag", [None, {"accuracy": 0.75}])
def test_tags_have_the_accuracy_by_how_the_label_shows(any_tag):
    label = {"A": {"num_clips": 3, "accuracy": 0.5}, "V": {"num_clips": 0, "accuracy": None}}
    label["AV"] = {"num_clips": 2, "accuracy": 1.0}
    (table,) = people_tables({"runs": [entry({"votes": None, "tags": {"label": label, "any_tag": any_tag}})]})
    assert table.title == ("accuracy on test clips by how their label shows (3 heard, 0 seen, 2 heard and seen)")
    assert table.rows == [["naive", 0.5, None, 1.0, *([] if any_tag is None else [0.75])]]


def test_without_people_there_are_no_tables():
    assert people_tables({"runs": [SETTING | {"amr_ratio": None, "measures": {}}]}) == []
