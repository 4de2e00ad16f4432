from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from amr.fusion.sweep.plots import plot_ratios, plot_shares

ROWS = [
    {"run": f"{method}-{ratio}-{seed}", "part": part, "method": method, "head": "concat", "modalities": modalities}
    | {"amr_ratio": ratio, "amr_weight": 1.0, "lr": 0.001, "seed": seed}
    | {"accuracy": 0.6 + 0.1 * seed, "map": 0.7, "share_audio": share}
    for method, modalities, ratio, share in (
        ("naive", "audio,video", "none", 0.7),
        ("naive", "audio,video", "1:1", 0.5),
        ("naive", "audio,video", "video=1:audio=3", 0.9),
        ("unimodal", "audio", "none", 1.0),
    )
    for seed in (0, 1)
    for part in ("val", "test")
]


@pytest.fixture
def drawn(monkeypatch):
    """Figures that were saved, instead of their files."""
    figures: list[Figure] = []

    def save(figure: Figure, file: Path, **_: object) -> None:
        Path(file).touch()
        figures.append(figure)

    monkeypatch.setattr(Figure, "savefig", save)
    return figures


def words_of(figure: Figure) -> list[str]:
    legends = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    axes = [text for each in figure.axes for text in (each.get_xlabel(), each.get_ylabel())]
    return [*axes, *(text.get_text() for each in figure.axes for text in each.texts), *legends]


def test_points_have_the_ratio_with_its_names(drawn, tmp_path):
    plot_shares(tmp_path / "a.png", pd.DataFrame(ROWS), "audio")
    (axes,) = drawn[0].axes
    assert [text.get_text() for text in axes.texts] == ["audio=1:video=1", "audio=3:video=1"]
    assert axes.get_title(loc="left") == "hollow: no AMR"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("share of audio on test", "accuracy on test")
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["naive, concat, no AMR", "naive, concat"]


def test_a_ratio_that_all_points_have_is_named_once(drawn, tmp_path):
    plot_shares(tmp_path / "a.png", pd.DataFrame(row for row in ROWS if "=" not in row["amr_ratio"]), "audio")
    (axes,) = drawn[0].axes
    assert list(axes.texts) == []
    assert axes.get_title(loc="left") == "filled: AMR audio=1:video=1, hollow: no AMR"


def test_points_are_means_over_seeds_on_test(drawn, tmp_path):
    plot_shares(tmp_path / "a.png", pd.DataFrame(ROWS), "audio")
    plain, line = drawn[0].axes[0].lines
    assert list(line.get_xdata()) == [0.5, 0.9]
    assert list(line.get_ydata()) == pytest.approx([0.65, 0.65])
    assert (list(plain.get_xdata()), list(plain.get_ydata())) == ([0.7], pytest.approx([0.65]))


def test_attributions_are_lines_of_their_own_and_names_do_not_overlap(drawn, tmp_path):
    ratios = ("none", "1:1", "3:1", "1:3", "2:1")
    rows = [
        {
            **row,
            "run": f"{ratio}-{kind}-{row['seed']}",
            "amr_ratio": ratio,
            "attribution": kind if ratio != "none" else None,
        }
        | {"share_audio": 0.5 + 0.002 * i, "accuracy": 0.6 + (kind == "permutation") * 0.01}
        for row in ROWS[:4]
        for i, ratio in enumerate(ratios)
        for kind in ("grad_x_input", "permutation")[: 1 if ratio == "none" else 2]
    ]
    plot_shares(tmp_path / "a.png", pd.DataFrame(rows), "audio")
    (axes,) = drawn[0].axes
    labels = [line.get_label() for line in axes.lines]
    assert labels == ["naive, concat, no AMR", "naive, concat, grad_x_input", "naive, concat, permutation"]
    assert [len(line.get_xdata()) for line in axes.lines] == [1, 4, 4]
    assert list(axes.lines[1].get_ydata()) == pytest.approx([0.6] * 4)
    assert list(axes.lines[2].get_ydata()) == pytest.approx([0.61] * 4)
    renderer = drawn[0].canvas.get_renderer()
    areas = [Text.get_window_extent(text, renderer) for text in axes.texts]
    assert len(areas) > 4
    assert all(one.count_overlaps([two]) == 0 for i, one in enumerate(areas) for two in areas[:i])


def test_many_settings_are_numbers_the_same_with_and_without_amr(drawn, tmp_path):
    decay = {"a": 0.01, "b": 0.0}  # a default of the method is no setting that varies
    rows = [
        {**row, "run": f"{name}-{row['run']}", "method": name, "weight_decay": decay.get(name, 0.1)}
        for name in "abcdefgh"
        for row in ROWS[:8]
    ]
    plot_shares(tmp_path / "a.png", pd.DataFrame(rows), "audio")
    (figure,) = drawn
    (axes,) = figure.axes
    assert sorted(line.get_marker() for line in axes.lines) == sorted(f"${i}$" for i in (*range(1, 9), *range(1, 9)))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [f"{name}, concat" for name in "abcdefgh"]
    assert axes.get_title(loc="left") == "colored: AMR audio=1:video=1, gray: no AMR"
    low, high = axes.get_xlim()
    assert 0.2 <= high - low < 1


def test_the_axis_of_another_metric_has_its_name(drawn, tmp_path):
    plot_shares(tmp_path / "a.png", pd.DataFrame(ROWS), "audio", metric="map")
    assert drawn[0].axes[0].get_ylabel() == "mAP on test"


def test_the_picture_of_ratios_names_what_it_shows_and_has_means_over_seeds(drawn, tmp_path):
    panels = {
        name: {
            "accuracy": [pd.Series([0.7, 0.9]), pd.Series([0.6, 0.6])],
            "share of audio": [pd.Series([0.7, 0.5]), pd.Series([0.2, 0.2])],
        }
        for name in ("one", "other")
    }
    plain = {"accuracy": pd.Series([0.8, 0.8]), "share of audio": pd.Series([0.4, 0.6])}
    named = {"title": "six classes", "axis": "ratio asked for, audio:video"}
    plot_ratios(tmp_path / "a.png", ["1:1", "1:3"], [0.5, 0.25], panels, plain, **named)
    words = words_of(drawn[0])
    assert {"accuracy on test", "share and use share on test", "ratio asked for, audio:video"} <= set(words)
    assert words[-3:] == ["ratio asked for", "without AMR", "share of audio"]
    top, other, bottom, _ = drawn[0].axes
    assert (top.get_title(loc="left"), other.get_title(loc="left")) == ("one", "other")
    requested, without, line = bottom.lines[:3]
    assert list(requested.get_ydata()) == [0.5, 0.25]
    assert list(without.get_ydata()) == [0.5, 0.5]
    assert list(line.get_ydata()) == pytest.approx([0.6, 0.2])


def test_a_picture_is_written(tmp_path):
    plot_shares(tmp_path / "a.png", pd.DataFrame(ROWS), "audio")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
