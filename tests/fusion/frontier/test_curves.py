"""Curves and sentences of a frontier, from its document."""

import pytest

from amr.fusion.frontier.curves import curves_of, front_of, half_width
from amr.fusion.frontier.picture import _lengths, _title, plot_frontier
from amr.fusion.frontier.reading import reading


def entry(label, kind, modalities, interval, **changes):
    shares = {m: 1 / len(modalities) for m in modalities}
    price = {"accuracy_lost": 0.02, "accuracy_lost_interval": interval, "moved": 0.1, "moved_interval": interval}
    price["pairs"] = 1 if interval is None else 15
    price |= {"per_tenth": None if interval is None else 0.02, "per_tenth_interval": interval, "setting": label}
    of_ratio = kind not in ("plain", "embedding noise")
    return {
        "setting": label,
        "kind": kind,
        "curve": kind,
        "is_control": kind == "embedding noise",
        "has_ratio": of_ratio,
        "seeds": [0, 1, 2],
        "accuracy": 0.7,
        "distance": 0.1,
        "use_share": shares,
        "price": None if kind == "plain" else dict.fromkeys(modalities, price),
        **changes,
    }


def document(modalities=("audio", "video"), interval=(0.01, 0.03)):
    kinds = ("plain", "permutation", "permutation", "embedding noise")
    settings = [entry(f"{kind} {i}", kind, modalities, interval) for i, kind in enumerate(kinds)]
    return {
        "modalities": [*modalities],
        "settings": settings,
        "front": settings[:2],
        "folds": 5,
        "label": "emotion",
        "cache": "/caches/umt.h5",
        "target": {m: 1 / len(modalities) for m in modalities},
        "max_cost": 0.01,
        "price": settings[1]["price"],
        "best": None,
    }


def test_settings_of_a_kind_are_a_curve_and_ratios_of_three_modalities_have_no_order():
    curves = curves_of(document())
    assert [(curve.name, len(curve.points), curve.is_ordered) for curve in curves] == [
        ("plain", 1, True),
        ("permutation", 2, True),
        ("embedding noise", 1, True),
    ]
    assert [curve.is_ordered for curve in curves_of(document(("a", "b", "c")), "a")] == [True, False, True]


def test_whiskers_are_those_of_the_paired_change():
    plain, permuted, _ = curves_of(document())
    assert plain.points[0].y_half is None
    assert abs(permuted.points[0].y_half - 0.01) < 1e-12
    assert half_width(None) is None
    assert curves_of(document(("a", "b", "c")))[1].points[0].x_half is None  # a distance


def test_a_setting_without_any_use_is_not_drawn():
    of_two = document()
    of_two["settings"][3]["distance"] = None
    assert [curve.name for curve in curves_of(of_two)] == ["plain", "permutation"]


def test_a_front_without_any_use_on_test_is_drawn_without_it(tmp_path):
    of_two = document()
    for each in of_two["settings"]:
        each["distance"] = None
    assert front_of(of_two) == []
    plot_frontier(tmp_path / "f.png", of_two)


def test_the_title_says_how_many_settings_have_no_place():
    of_two = document()
    for each in of_two["settings"][:2]:
        each["distance"] = None
    assert _title(of_two).splitlines()[-1] == ("not drawn: 2 of 4 settings use no modality on test, plain among them")


def test_whiskers_of_the_picture_end_where_values_do():
    below, above = _lengths([(0.9, 0.3), (0.5, None), (0.1, 0.3)], (0.0, 1.0))
    assert below == pytest.approx([0.3, 0, 0.1])
    assert above == pytest.approx([0.1, 0, 0.3])
    assert _lengths([(0.5, None)], (0.0, 1.0)) is None


def test_a_curve_has_a_color_of_its_own(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr("matplotlib.axes.Axes.errorbar", lambda _, *args, **options: drawn.append(options))
    kinds = ("plain", *(f"kind {i}" for i in range(9)))
    of_many = document() | {"settings": [entry(kind, kind, ("audio", "video"), None) for kind in kinds]}
    plot_frontier(tmp_path / "f.png", of_many)
    colors = {options["label"]: options["color"] for options in drawn}
    assert len(set(colors.values())) == len(kinds)
    drawn.clear()
    of_many["settings"][0]["distance"] = None
    plot_frontier(tmp_path / "f.png", of_many)
    assert {options["label"]: options["color"] for options in drawn} == {k: colors[k] for k in kinds[1:]}


def test_a_move_that_is_always_0_is_not_for_lack_of_pairs():
    of_two = document()
    for price in of_two["price"].values():
        price |= {"moved": 0.0, "moved_interval": None, "per_tenth": None}
    (sentence,) = reading(of_two)
    assert "does not surely move" in sentence


def test_the_title_names_set_seeds_and_intervals(tmp_path):
    assert _title(document()) == (
        "umt, emotion: mean of 3 seeds x 5 folds\nwhiskers: 95 % intervals of the paired change from plain"
    )
    single = document(interval=None)
    for each in single["settings"]:
        each["seeds"] = [0]
    assert _title(single | {"folds": 0}) == "umt, emotion: 1 seed"
    for modalities in (("audio", "video"), ("a", "b", "c")):
        plot_frontier(tmp_path / "f.png", document(modalities))
        assert (tmp_path / "f.png").stat().st_size > 10_000


def test_a_price_is_said_once_for_two_modalities_and_its_absence_once_for_all():
    (sentence,) = reading(document())
    assert sentence.startswith("Moving the use share of audio by .10 towards 0.50 costs 0.020 accuracy (95 % interval")
    assert len(reading(document(("a", "b", "c")))) == 3
    (none,) = reading(document(("a", "b", "c"), interval=None))
    assert "needs three pairs of seed and fold" in none
