"""Words in the picture."""

from __future__ import annotations

from dataclasses import replace

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from amr.extract.pipeline.preview import Media
from amr.fusion.explain.config import ExplainConfig
from amr.fusion.explain.picture import draw

from .test_explanation import explanation, without


@pytest.fixture
def words(tmp_path, monkeypatch):
    """Draw an explanation, and return its texts, all of which must lie inside the picture."""
    drawn = []
    savefig = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kw: drawn.append(self) or savefig(self, *args, **kw))

    def texts(e):
        draw(tmp_path / "a.png", e, Media(), {"audio": "audio", "video": "video"})
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


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_a_picture_may_be_drawn_again_but_not_over_one_of_another_program(tmp_path, suffix):
    file = tmp_path / f"clip{suffix}"
    config = ExplainConfig(tmp_path, "clip", out=file)
    draw(file, explanation(zero={"audio": without(0.25)}), Media(), {"audio": "audio", "video": "video"})
    config.check_writable(tmp_path)
    file.write_bytes(b"a photograph")
    with pytest.raises(ValueError, match="--out must be new or written by the same command"):
        config.check_writable(tmp_path)
