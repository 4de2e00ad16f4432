"""Heads on text: predictions for new texts, and explanations that show it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from amr.data_manifests.synthetic import SyntheticConfig, render
from amr.extract.config import ExtractConfig
from amr.extract.pipeline.preview import Media
from amr.extract.run import extract_embeddings
from amr.fusion.config import FitConfig
from amr.fusion.end_to_end.config import TrainConfig
from amr.fusion.end_to_end.data import build_encoders
from amr.fusion.explain.config import ExplainConfig
from amr.fusion.explain.explain import explain
from amr.fusion.explain.explanation import Steps
from amr.fusion.explain.picture import draw
from amr.fusion.fit import fit
from amr.fusion.predict import predict
from amr.fusion.report.clips.gallery import galleries
from amr.fusion.report.read import read_results
from amr.fusion.report.settings import settings_of

from .explain.test_explanation import explanation, without

WORDS = ("red square high", "green circle low")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A workspace with clips of three modalities, and a run on them."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMR_HOME", str(folder))
        clips = render(SyntheticConfig(num_classes=2, num_clips=40, p_audio=0.7, p_video=0.7), folder / "clips").table
        clips["text"] = [WORDS[label == "class-01"] if i % 8 else "" for i, label in enumerate(clips["label"])]
        clips["path"] = "clips/" + clips["path"]
        clips[["id", "path", "label", "split", "text"]].to_csv(folder / "three.csv", index=False)
        extract_embeddings(ExtractConfig(manifest=str(folder / "three.csv"), workers=0, device="cpu"))
        fit(
            FitConfig(
                cache=str(folder / "caches/three.h5"), epochs=4, lr=0.01, device="cpu", out="three", amr_ratio="1:1:1"
            )
        )
    return folder


@pytest.fixture(autouse=True)
def in_home(home, monkeypatch):
    monkeypatch.setenv("AMR_HOME", str(home))
    monkeypatch.chdir(home)


def test_new_texts_are_predicted_as_those_of_the_cache(home):
    Path("note.txt").write_text(WORDS[1])
    Path("new").mkdir()
    Path("new/00001.mp4").symlink_to(home / "clips/clips/00001.mp4")
    text = predict("three", ["00001"], "cpu")[0]
    Path("new/00001.txt").write_text(WORDS[text.pred == "class-01"])
    Path("new.csv").write_text(f"id,path,text\nx,new/00001.mp4,{WORDS[text.pred == 'class-01']}\n")
    note, folder, row, file = predict("three", ["note.txt", "new", "new.csv", "new/00001.mp4"], "cpu")
    assert (note.pred, note.note) == ("class-01", "no audio, no video")
    for new in (folder, row):
        assert new.probabilities == pytest.approx(text.probabilities, abs=1e-5)
        assert new.share == pytest.approx(text.share, abs=1e-5)
        assert new.note == ""
    assert file.note == "no text"


def test_an_explanation_shows_the_text_and_gives_it_no_time(home):
    cached = explain(ExplainConfig("three", "00001", device="cpu"))
    assert cached.text in WORDS
    assert json.loads(json.dumps(cached.to_json()))["text"] == cached.text
    lacking = explain(ExplainConfig("three", "00000", device="cpu"))
    assert lacking.text is None
    assert "no text" in lacking.notes


def test_steps_of_text_are_parts_of_it(home, monkeypatch):
    drawn = []
    savefig = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kw: drawn.append(self) or savefig(self, *args, **kw))
    steps = {"video": Steps([0.0, 0.5], [0.5, 1.0], [0.75, 0.25], in_seconds=False)}
    media = Media(text="word " * 300 + "\n" + "早上好" * 50)
    example = explanation(zero={"audio": without(0.5), "video": without(0.5)})
    draw(home / "a.png", replace(example, steps=steps), media, {"audio": "audio", "video": "text"})
    words = [text.get_text() for text in drawn[-1].texts]
    assert "text" in words
    assert sum(text.startswith("word word") for text in words) == 8
    labels = [text.get_text() for axes in drawn[-1].axes for text in axes.texts]
    assert "where video\nmattered" in labels
    assert not any("fraction of the clip" in axes.get_xlabel() for axes in drawn[-1].axes)
    drawn[-1].draw_without_rendering()
    box = drawn[-1].get_tightbbox()
    assert 0 <= box.x0 <= box.x1 <= drawn[-1].get_figwidth()
    assert np.isfinite(box.y1)


def test_the_page_shows_the_text_of_clips(home):
    results = read_results(home / "runs/three")
    found = galleries(results, settings_of(results), 6, media=True)
    texts = {clip.media.text for gallery in found.galleries for clip in gallery.clips}
    assert texts <= {*WORDS, ""}
    assert any(texts)


def test_encoders_of_text_are_not_trained():
    config = TrainConfig(manifest="three.csv", encoder=("words=hashing",))
    with pytest.raises(
        ValueError, match=r"--encoder words must be an encoder of sound or pictures .* which reads text"
    ):
        build_encoders(config)
