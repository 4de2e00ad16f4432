"""Encoders of joint trainings, compared with encoders that were trained alone."""

from __future__ import annotations

import shutil

import h5py
import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from amr.common.files import write_json
from amr.common.progress import Progress
from amr.extract.cache.arrays import read_text, write_text
from amr.extract.cache.reader import Cache
from amr.extract.cache.seal import seal
from amr.fusion.config import FitConfig
from amr.fusion.evaluate.config import EvaluateConfig
from amr.fusion.evaluate.evaluate import evaluate
from amr.fusion.evaluate.groups import OpenedCaches, RunGroup
from amr.fusion.evaluate.references.encoders import EncodersAlone
from amr.fusion.evaluate.tables import encoders_table, reading
from amr.fusion.runs.read import read_run, read_runs
from amr.fusion.sweep.sweep import sweep
from amr.fusion.swept import SweepConfig

from ...trainings import set_record

MODALITIES = ("audio", "video")


class Notes(Progress):
    """Keep the notes."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def questioned(trained, tmp_path):
    """Function that evaluates a folder of the workspace: the document."""

    def of(run: str, progress: Progress | None = None, **settings):
        quick = {"bootstrap": 0, "noise_draws": 1, "device": "cpu", "out": str(tmp_path / "out")}
        return evaluate(EvaluateConfig(run, **{**quick, **settings}), progress).document

    return of


def probe_accuracy(cache, modality: str) -> float:
    """Test accuracy of scikit-learn's ridge classifier on the z of a cache."""
    with Cache.open(cache) as opened:
        clips, z = opened.table(), opened.embedding(modality).astype(float)
    train, test = (clips["split"].eq(split).to_numpy() for split in ("train", "test"))
    probe = make_pipeline(StandardScaler(), RidgeClassifier(alpha=train.sum()))
    probe.fit(z[train], clips["label"][train])
    return float((probe.predict(z[test]) == clips["label"][test]).mean())


def test_probes_are_ridge_classifiers_on_the_z_of_both_caches(trained, questioned):
    (run,) = questioned("even", unimodal="alone")["runs"]
    probe = run["measures"]["probe"]
    for m in MODALITIES:
        joint = probe_accuracy(trained / "encoders" / "even" / "embeddings.h5", m)
        alone = probe_accuracy(trained / "encoders" / "alone" / m / "embeddings.h5", m)
        assert probe["joint"][m] == pytest.approx(joint, abs=1e-6)
        assert probe["unimodal"][m] == pytest.approx(alone, abs=1e-6)
        assert probe["gap"][m] == pytest.approx(joint - alone, abs=2e-6)
        assert probe["ratio"][m] == pytest.approx(joint / alone, abs=2e-6)
    assert run["encoders_alone"] == {m: f"alone/{m}" for m in MODALITIES}


def test_gains_are_over_the_encoders_trained_alone(trained, questioned):
    measures = questioned("even", unimodal="alone")["runs"][0]["measures"]
    runs = {m: read_run(trained / "encoders" / "alone" / m / "run") for m in MODALITIES}
    for m, run in runs.items():
        assert measures["unimodal_accuracy"][m] == pytest.approx(run.test["accuracy"], abs=1e-6)
    best = max(MODALITIES, key=lambda m: runs[m].val["accuracy"])
    expected = measures["accuracy"] - runs[best].test["accuracy"]
    assert measures["gain_over_best_unimodal"] == pytest.approx(expected, abs=1e-6)
    assert "ogr" not in measures  # the encoders' initial weights are not kept


def test_z_of_encoders_trained_alone_is_as_small_as_in_its_cache(trained):
    run = read_run(trained / "encoders" / "even" / "run")
    group = RunGroup((run,), OpenedCaches("cpu").data(run))
    reference = EncodersAlone("alone").of(group)(0)
    for clips, own in ((reference.fold.train, group.folds[0].train), (reference.fold.test, group.folds[0].test)):
        for m, z in clips.embeddings.items():
            assert z.dtype == own.embeddings[m].dtype == torch.float16
    with Cache.open(trained / "encoders" / "alone" / "audio" / "embeddings.h5") as cache:
        stored = torch.from_numpy(cache.stored("audio", group.folds[0].rows.test))
    assert torch.equal(reference.fold.test.embeddings["audio"], stored)


def test_the_gap_is_paired_by_clip(questioned):
    document = questioned("even", unimodal="alone", bootstrap=200)
    (run,) = document["runs"]
    for m in MODALITIES:
        low, high = run["intervals"][f"probe.gap.{m}"]
        assert -1 <= low <= run["measures"]["probe"]["gap"][m] <= high <= 1
    columns, rows = encoders_table(document)
    assert columns == ["setting", "modality", "trained jointly", "trained alone", "gap", "95 %"]
    assert [row[1] for row in rows] == [*MODALITIES]
    assert rows[0][-1] == "{:+.3f} to {:+.3f}".format(*run["intervals"]["probe.gap.audio"])
    assert "gap" in reading(document)


def test_teachers_are_encoders_trained_alone(questioned):
    (run,) = questioned("umt")["runs"]
    assert run["encoders_alone"] == {m: f"umt/teachers/{m}" for m in MODALITIES}
    assert run["measures"]["probe"]["gap"].keys() == {*MODALITIES}


def test_a_sweep_of_trainings_has_its_own(trained, questioned):
    document = questioned("table")
    runs = {run["run"]: run for run in document["runs"]}
    alone = {m: f"unimodal_{m}_seed0" for m in MODALITIES}
    assert {name: run["encoders_alone"] for name, run in runs.items()} == {
        "naive_amr-1-1_grad_x_input_seed0": alone,
        "naive_plain_seed0": alone,
        "unimodal_audio_seed0": None,
        "unimodal_video_seed0": None,
    }
    compared = {test["measure"] for test in document["comparisons"]}
    assert {"accuracy", "probe.joint.video"} <= compared
    assert not compared & {"probe.unimodal.video", "probe.gap.video"}  # the same encoder for both
    (member,) = questioned("table/runs/naive_plain_seed0")["runs"]
    assert member["encoders_alone"] == alone
    assert member["measures"]["probe"] == runs["naive_plain_seed0"]["measures"]["probe"]
    (named,) = questioned("even", unimodal=str(trained / "runs" / "table"))["runs"]
    assert named["encoders_alone"] == alone


def test_without_encoders_trained_alone_nothing_is_compared(questioned):
    progress = Notes()
    document = questioned("even", progress)
    (run,) = document["runs"]
    assert run["encoders_alone"] == {}
    assert run["measures"]["gain_over_ume"] is None
    assert "probe" not in run["measures"]
    assert encoders_table(document) is None
    assert [note for note in progress.texts if note.startswith("no encoders trained alone to compare even with; amr")]


def test_runs_on_ordinary_caches_have_no_encoders_to_compare(small_cache, trained, questioned):
    base = FitConfig(cache=str(small_cache), epochs=1, device="cpu", out=str(small_cache.parent / "fits"))
    folder = sweep(SweepConfig(base, amr_ratio=(None, "1:1"))).folder
    document = questioned(str(folder))
    assert [run["encoders_alone"] for run in document["runs"]] == [None, None]
    assert encoders_table(document) is None
    with pytest.raises(ValueError, match="--unimodal must be used with the run of a joint training"):
        questioned(str(folder), unimodal="alone")


def test_encoders_of_one_modality_cannot_be_compared(questioned, trained, tmp_path):
    shutil.copytree(trained / "encoders" / "alone", tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "video")
    with pytest.raises(ValueError, match=r"--unimodal must be a unimodal training of audio, video, .* none of video"):
        questioned("even", unimodal=str(tmp_path / "half"))
    with pytest.raises(FileNotFoundError, match="--unimodal must be the folder of a run"):
        questioned("even", unimodal="nothing")


OTHER_VIDEO = dict.fromkeys(("modality", "encoder", "weights_sha256", "fingerprint"), "") | {
    "embed_dim": 256,
    "preprocessing": {"size": 16},
}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"config": {"split_seed": 7}}, "split_seed 7, not 0"),
        ({"config": {"label": "sound"}}, "label sound, not label"),
        ({"modalities": {"video": OTHER_VIDEO}}, r"preprocessing {'size': 16}"),
    ],
)
def test_other_encoders_and_splits_are_refused(trained, questioned, tmp_path, changes, found):
    copied = shutil.copytree(trained / "encoders" / "alone", tmp_path / "other")
    set_record(copied / "video" / "run", **changes)
    with pytest.raises(ValueError, match=rf"must have the video encoder of even, trained on the same clips, .*{found}"):
        questioned("even", unimodal=str(copied))


def set_column(file, name, values):
    """Replace a column of the clips."""
    del file[f"clips/{name}"]
    write_text(file["clips"], name, values)
    seal(file)


@pytest.mark.parametrize("column", ["id", "split", "columns/label"])
def test_other_clips_are_refused(trained, questioned, tmp_path, column):
    copied = shutil.copytree(trained / "encoders" / "alone", tmp_path / "other")
    cache = copied / "audio" / "embeddings.h5"
    set_record(copied / "audio" / "run", cache=str(cache))
    with h5py.File(cache, "r+") as file:
        values = read_text(file["clips"][column])
        values[0], values[-1] = values[-1], values[0]
        set_column(file, column, values)
    with pytest.raises(ValueError, match=r"with other ids, labels or splits\. Train it with the options of even"):
        questioned("even", unimodal=str(copied))


def test_a_sweep_of_trainings_keeps_one_cache_open(trained):
    runs = read_runs(trained / "runs" / "table")
    caches = OpenedCaches("cpu")
    for run in runs:
        caches.data(run)
        caches.pooled(run)
    assert {key[0] for key in caches._opened} == {trained / "runs/table/trainings/unimodal_seed0/video/embeddings.h5"}


def test_decisions_of_each_run_are_of_its_own_modalities(trained, questioned, tmp_path):
    document = questioned("alone")
    assert document["source"] == "alone"
    assert document["modalities"] == [*MODALITIES]
    assert [run["run"] for run in document["runs"]] == ["alone/audio", "alone/video"]
    with np.load(tmp_path / "out" / "evaluation.npz") as arrays:
        known = ~np.isnan(arrays["shares"].astype(float)).all(1)  # (run, modality)
        np.testing.assert_array_equal(known[:, 0] & known[:, 1], [False, False])
        assert (arrays["preds"] >= 0).all()


def test_a_sweep_of_other_clips_is_refused(trained, questioned, tmp_path):
    copied = shutil.copytree(trained / "runs" / "table", tmp_path / "table")
    for run in copied.glob("runs/unimodal_*"):
        shutil.rmtree(run)
    cache = copied / "trainings" / "naive_plain_seed0" / "embeddings.h5"
    set_record(copied / "runs" / "naive_plain_seed0", cache=str(cache))
    with h5py.File(cache, "r+") as file:
        set_column(file, "id", ["another", *read_text(file["clips/id"])[1:]])
    with pytest.raises(ValueError, match=r"RUN must have runs on the same clips, got naive_.* on others"):
        questioned(str(copied))


def test_runs_with_encoders_of_their_own_have_no_cache_in_common(trained, questioned):
    cache = str(trained / "encoders" / "alone" / "audio" / "embeddings.h5")
    with pytest.raises(ValueError, match=r"--cache must be left out for runs that each trained encoders, got 4"):
        questioned("table", cache=cache)


def test_unfinished_trainings_of_a_sweep_are_counted(trained, questioned, tmp_path):
    copied = shutil.copytree(trained / "runs" / "table", tmp_path / "table")
    (copied / "trainings" / "later").mkdir()
    write_json(copied / "trainings" / "later" / "config.json", {"config": {}, "clips_sha256": ""})
    assert questioned(str(copied))["num_unfinished"] == 1
