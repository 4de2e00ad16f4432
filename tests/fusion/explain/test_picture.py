"""Words in the picture."""

from __future__ import annotations

from dataclasses import replace

import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from amr.extract.pipeline.preview import Media
from amr.fusion.explain.config import ExplainConfig
from amr.fusion.explain.panels.base import OTHER, PREDICTED
from amr.fusion.explain.panels.labels import CHECK
from amr.fusion.explain.picture import draw

from .test_explanation import explanation, without
from .test_labels import labels_explanation
from .test_number import number_explanation


@pytest.fixture
def words(tmp_path, monkeypatch):
    """Draw an explanation, and return its texts, all of which must lie inside the picture."""
    drawn = []
    savefig = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kw: drawn.append(self) or savefig(self, *args, **kw))

    def texts(e):
        draw(tmp_path / "a.png", e, Media(), {"audio": "audio", "video": "video"})
        texts.figure = drawn[-1]
        drawn[-1].draw_without_rendering()
        box = drawn[-1].get_tightbbox()
        assert 0 <= box.x0 <= box.x1 <= drawn[-1].get_figwidth()
        return list(dict.fromkeys(text.get_text() for text in drawn[-1].findobj(Text)))

    return texts


def test_a_class_is_called_one_and_equal_baselines_are_one_bar(words):
    same = {m: without(0.25, pred="2") for m in ("audio", "video")}
    found = words(explanation(zero=same, mean=same))
    assert "class 1 with probability 0.98; the label is class 0" in found
    assert "probability of class 1 (dark) and class 0 (light)" in " ".join(" ".join(found).split())
    assert [text for text in found if text.startswith("without")] == [
        "without audio\nzero or mean",
        "without video\nzero or mean",
    ]
    assert any("now class 2: 0.75" in text for text in found)
    assert not any("answer" in text for text in found)


def test_other_baselines_have_their_own_bars(words):
    found = words(explanation(zero={"audio": without(0.25)}, mean={"audio": without(0.75)}))
    assert [text for text in found if text.startswith("without")] == ["without audio: zero", "without audio: mean"]


def test_long_names_stay_inside(words):
    names = {"male speech, man speaking": 0.51, "people marching or running in the park": 0.49}
    pred, true = names
    removed = {"audio": without(0.5, pred="playing the electric guitar"), "video": without(0.1, pred=true)}
    words(replace(explanation(zero=removed), pred=pred, true=true, probabilities=names))


def test_labels_have_a_column_with_everything_and_one_without_each_modality(words):
    found = words(labels_explanation(without={"dog": 0.9, "cat": 0.4, "cow": 0.2}))
    assert "dog, cat; true: dog, cow" in found
    assert "share of the predicted labels, by" in found
    assert [text for text in found if text.startswith("with")] == [
        "with everything",
        "without audio\nzero",
        "without video\nzero",
    ]
    assert {"dog", "cat", "cow", "0.90", "0.60", "0.40", CHECK} <= {*found}
    assert "probability of each label; dark: above one half, so it is predicted; \N{CHECK MARK}: true" in found
    unknown = words(labels_explanation(true_labels=None))
    assert CHECK not in unknown
    assert "probability of each label; dark: above one half, so it is predicted" in unknown


def test_predicted_labels_are_dark_and_bold_and_true_ones_have_a_check_mark(words):
    words(labels_explanation(without={"dog": 0.9, "cat": 0.4, "cow": 0.2}))
    _, whole, without_audio, _ = words.figure.axes
    assert [bar.get_facecolor()[:3] for bar in whole.patches] == [to_rgb(c) for c in (PREDICTED, PREDICTED, OTHER)]
    assert [bar.get_width() for bar in without_audio.patches] == [0.9, 0.4, 0.2]
    assert [bar.get_facecolor()[:3] for bar in without_audio.patches] == [to_rgb(c) for c in (PREDICTED, OTHER, OTHER)]
    weights = {text.get_text(): text.get_weight() for text in whole.texts}
    assert (weights["dog"], weights["cat"], weights["cow"]) == ("bold", "bold", "normal")
    assert [text.get_position()[1] for text in whole.texts if text.get_text() == CHECK] == [0, 2]


def test_names_of_labels_fill_one_line(words):
    names = ("people marching or running", "male speech, man speaking", "engine accelerating", "car")
    e = labels_explanation(dict.fromkeys(names, 0.9), true_labels=("cow bell ring",))
    assert 95 < len(e.sentence) <= 100
    assert e.sentence.startswith(", ".join(names))
    words(e)


@pytest.mark.parametrize("num_modalities", [1, 3, 6])
def test_many_labels_with_long_names_stay_inside(words, num_modalities):
    names = [f"people marching or running in the park, and {i} of them wear hats, others not" for i in range(60)]
    names += ["早上好" * 30, "a" * 100, "costs $5 to $9"]
    p = {name: 0.01 + 0.95 * (i % 3 == 0) for i, name in enumerate(names)}
    modalities = [f"a modality with a long name {i}" for i in range(num_modalities)]
    zero, mean = (dict.fromkeys(modalities, dict.fromkeys(names, x)) for x in (0.4, 0.9))
    found = words(labels_explanation(p, true_labels=tuple(names[:5]), zero=zero, mean=mean))
    assert f"not shown: {len(names) - 24} labels with probabilities of 0.90 at most" in "\n".join(found)


def test_a_number_is_a_dot_per_row_with_the_truth_and_the_mean_as_lines(words):
    found = words(number_explanation())
    assert "sentiment 1.25; the true number is 1.50" in found
    assert "share of the number, by" in found
    assert "sentiment\nsolid: true, 1.50; dotted: mean of train clips" in found
    assert {"with everything", "without audio: zero", "1.25", "0.50 (-0.75)", "1.25 (+0.00)"} <= {*found}
    axes = words.figure.axes[1]
    dots = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert dots == [1.25, 0.5, 1.25]
    upright = [
        line.get_xdata()[0] for line in axes.lines if len({*line.get_xdata()}) == 1 and len(line.get_xdata()) > 1
    ]
    assert upright[:2] == [0.1, 1.5]
    low, high = axes.get_xlim()
    assert low < 0.1 - 2 * 2.0 < 0.1 + 2 * 2.0 < high
    assert "sentiment\ndotted: mean of train clips" in words(number_explanation(true_value=None))


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e9])
def test_numbers_of_every_scale_stay_inside(words, unit):
    names = [f"a modality with a long name {i}" for i in range(6)]
    e = number_explanation(7 * unit, -3 * unit, 2.0 * unit, zero=dict.fromkeys(names, -2 * unit))
    words(replace(e, column="the_mean_of_what_five_people_say_about_the_clip_" * 3))


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_a_picture_may_be_drawn_again_but_not_over_one_of_another_program(tmp_path, suffix):
    file = tmp_path / f"clip{suffix}"
    config = ExplainConfig(tmp_path, "clip", out=file)
    draw(file, explanation(zero={"audio": without(0.25)}), Media(), {"audio": "audio", "video": "video"})
    config.check_writable(tmp_path)
    file.write_bytes(b"a photograph")
    with pytest.raises(ValueError, match="--out must be new or written by the same command"):
        config.check_writable(tmp_path)
