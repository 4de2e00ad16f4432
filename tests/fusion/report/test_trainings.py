"""Pages about trainings of encoders and sweeps of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from amr.cli import run as amr
from amr.common.workspace import find_run
from amr.fusion.evaluate.config import EvaluateConfig
from amr.fusion.evaluate.evaluate import evaluate
from amr.fusion.report.config import ReportConfig
from amr.fusion.report.page import chapter_of
from amr.fusion.report.read import read_results
from amr.fusion.report.text.commands import commands


@pytest.fixture
def chapter(trained):
    """Function that makes the chapter of a folder of the workspace."""
    return lambda name: chapter_of(read_results(find_run(name)), "s1", ReportConfig((name,), clips=2))


def pictures(chapter) -> dict:
    return {picture.name: picture for picture in chapter.all_pictures}


def test_a_joint_training_is_a_model_with_curves(trained, chapter):
    page = chapter("even")
    assert page.sentences[0] == (
        "One model trained end to end on synthetic, predicting 'label' (2 classes) for 12 test clips."
    )
    assert len(pictures(page)["training"].table.rows) == 3  # epochs
    assert "share of audio" in str(pictures(page)["training"].plots)
    assert page.clips is not None
    assert len(page.clips.galleries[0].clips[0].media.frames) > 0
    (command,) = page.commands
    assert command.startswith("amr train-encoders ")
    assert "--out even" in command
    for option in ("--amr-ratio 1:1", "--objective joint", "--dataset synthetic", "--epochs 3"):
        assert option in command
    assert "encoders" not in pictures(page)  # not evaluated


def test_a_unimodal_training_is_a_model_per_modality(trained, chapter):
    page = chapter("alone")
    assert page.sentences[0].startswith("2 models trained end to end on synthetic")
    assert [row[0].text for row in page.headline.rows] == ["audio only", "video only"]
    assert not [column for column in page.headline.columns if "share" in column]  # nothing is shared
    assert "share" not in str(pictures(page)["training"].plots)
    assert read_results(find_run("alone/video")).name == "alone/video"
    assert chapter("alone/video").commands == page.commands  # one training made both


def test_a_sweep_of_trainings_shows_what_each_encoder_learned(trained, tmp_path, chapter):
    folder = trained / "runs" / "table"
    document = evaluate(EvaluateConfig(folder, bootstrap=0, noise_draws=1, device="cpu")).document
    try:
        page, results = chapter("table"), read_results(folder)
        assert amr(["report", str(folder), "--out", str(tmp_path / "page.html")]) == 0
    finally:
        for file in folder.glob("evaluation.*"):
            file.unlink()
    assert page.sentences[0].startswith("4 models trained end to end on synthetic")
    picture = pictures(page)["encoders"]
    assert [row[1].text for row in picture.table.rows] == ["audio", "audio", "video", "video"]
    gaps = {run["run"]: run["measures"].get("probe", {}).get("gap") for run in document["runs"]}
    shown = [row[4].value for row in picture.table.rows]
    names = ("naive_plain_seed0", "naive_amr-1-1_grad_x_input_seed0")
    assert shown == [gaps[name][m] for m in ("audio", "video") for name in names]
    assert any(sentence.startswith("Linear probes on z of its encoders have") for sentence in page.sentences)
    assert {"share", "use", "training"} <= pictures(page).keys()
    assert page.clips is not None
    assert len(page.clips.galleries[0].clips[0].media.frames) > 0
    assert page.facts["embeddings"].startswith("audio: trained in each run (")
    made, evaluated = (command.replace(" \\\n ", "") for command in commands(results))
    assert made.startswith("amr train-encoders --epochs 3 ")
    assert " --objective joint " in made
    assert made.endswith(" --method naive,unimodal --amr-ratio none,1:1 --out table")
    table = commands(replace(results, table=[]))[0].replace(" \\\n ", "")
    assert table.startswith("amr table --end-to-end --epochs 3 ")
    assert table.endswith("--method naive,unimodal --amr-ratio 1:1 --seeds 1 --out table")
    assert "--objective" not in table
    assert evaluated == "amr evaluate table --bootstrap 0 --noise-draws 1"


def test_a_fit_on_the_z_of_a_training_is_a_fit(trained, tmp_path):
    cache = trained / "encoders" / "even" / "embeddings.h5"
    out = tmp_path / "head"
    assert amr(["fit", "--cache", str(cache), "--epochs", "1", "--device", "cpu", "--out", str(out)]) == 0
    assert read_results(out).training is None
