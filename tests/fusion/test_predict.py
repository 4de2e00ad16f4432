"""Predictions for new media and cached clips, of runs and sweeps."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from amr.common.files import remove_checksums
from amr.common.progress import Progress
from amr.data_manifests.synthetic import SyntheticConfig, render
from amr.extract.config import ExtractConfig
from amr.extract.run import extract_embeddings
from amr.fusion.config import FitConfig
from amr.fusion.fit import fit
from amr.fusion.predict import predict
from amr.fusion.runs import new_clips
from amr.fusion.runs.read import best_run
from amr.fusion.sweep.sweep import sweep
from amr.fusion.swept import SweepConfig


class Listener(Progress):
    """What was reported."""

    def __init__(self) -> None:
        self.total = self.done = self.failures = 0.0
        self.notes: list[str] = []

    def start(self, total: float, done: float = 0, unit: str = "clips") -> None:
        self.total = total

    def advance(self, amount: float, failures: int = 0) -> None:
        assert amount > 0, "a listener may print a line for every call"
        self.done += amount
        self.failures += failures

    def note(self, text: str) -> None:
        self.notes.append(text)


def config(cache, **changes):
    return FitConfig(**{"cache": str(cache), "epochs": 4, "lr": 0.01, "device": "cpu", **changes})


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A workspace with rendered clips, their cache and a run `plain`."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMR_HOME", str(folder))
        render(SyntheticConfig(num_classes=2, num_clips=40), folder / "data/synthetic")
        extract_embeddings(ExtractConfig(dataset="synthetic", workers=0, device="cpu"))
        fit(config(folder / "caches/synthetic.h5", out="plain"))
    return folder


@pytest.fixture(autouse=True)
def in_home(home, monkeypatch):
    monkeypatch.setenv("AMR_HOME", str(home))
    monkeypatch.chdir(home / "data/synthetic")


def classes(predictions):
    return [(Path(p.clip).stem, p.pred, round(p.probability, 4)) for p in predictions]


def test_a_folder_a_manifest_and_ids_give_the_same(home):
    by_id = predict("plain", [f"{i:05d}" for i in range(40)], "cpu")
    Path("clips.csv").write_text("path\n" + "".join(f"clips/{i:05d}.mp4\n" for i in range(40)))
    Path("ids.csv").write_text("id,label\n" + "".join(f"{i:05d},x\n" for i in range(40)))
    listener = Listener()
    assert classes(predict(home / "runs/plain", Path("clips"), "cpu", listener)) == classes(by_id)
    assert (listener.total, listener.done, listener.failures) == (40, 40, 0)
    assert classes(predict("plain", "clips.csv", "cpu")) == classes(by_id)
    assert predict("plain", ["ids.csv"], "cpu") == by_id


def test_the_times_of_a_manifest_are_honored():
    Path("halves.csv").write_text(
        "id,path,start_seconds,end_seconds\nall,clips/00001.mp4,,\nwhole,clips/00001.mp4,0,60\nend,clips/00001.mp4,0.5,\n"
    )
    whole, same, end = predict("plain", "halves.csv", "cpu")
    assert whole.probabilities == same.probabilities
    assert end.probabilities != whole.probabilities


def test_unknown_clips_and_broken_files_get_a_note():
    Path("broken.mp4").write_bytes(Path("clips/00001.mp4").read_bytes()[:2000])
    Path("listed.csv").write_text("id,path\n00002,gone.mp4\nnobody,gone.mp4\n")
    listener = Listener()
    names = ["00001", "broken.mp4", "nosuch", "clips/00001.mp4", "listed.csv"]
    good, broken, unknown, media, cached, gone = predict("plain", names, "cpu", listener)
    assert [p.clip for p in (good, broken, unknown, media)] == names[:4]
    assert good.pred == media.pred is not None
    assert broken.pred is None
    assert broken.note.startswith("audio, video: ")
    assert unknown.note == f"no such file; no such id in {Path.cwd().parent.parent / 'caches/synthetic.h5'}"
    assert unknown.share == {"audio": None, "video": None}
    assert cached.pred is not None, "its file is gone, but its id is in the cache"
    assert gone.pred is None
    assert "file not found" in gone.note
    assert (listener.total, listener.done, listener.failures) == (6, 6, 3)


def test_cached_clips_that_failed_in_the_extraction_tell_why(home):
    rows = [f"{i},{home}/data/synthetic/clips/{i:05d}.mp4,{'ab'[i % 2]}\n" for i in range(8)]
    Path("empty.mp4").touch()
    Path("some.csv").write_text(f"id,path,label\n{''.join(rows)}lost,lost.mp4,a\nempty,empty.mp4,b\n")
    cache = extract_embeddings(ExtractConfig(manifest="some.csv", out="some", workers=0, device="cpu")).cache
    run = fit(config(cache, out="some")).run
    Path("rows.csv").write_text("id,path\nlost,lost.mp4\n1,lost.mp4\n")
    lost, empty, row, good = predict(run, ["lost", "empty", "rows.csv"], "cpu")
    assert lost.note == row.note == f"audio, video: file not found: {Path.cwd() / 'lost.mp4'}"
    assert empty.note == "audio, video: the file cannot be opened: it is empty"
    assert (lost.pred, empty.pred, good.note) == (None, None, "")


def test_a_single_text_or_path_is_one_clip():
    assert [p.clip for p in predict("plain", "00003", "cpu")] == ["00003"]
    assert [p.clip for p in predict(Path("../../runs/plain"), Path("clips/00003.mp4"), "cpu")] == ["clips/00003.mp4"]
    with pytest.raises(ValueError, match="at least one clip"):
        predict("plain", [], "cpu")


def test_few_clips_are_held_at_once(monkeypatch):
    monkeypatch.setattr(new_clips, "CACHED_AT_ONCE", 16)
    sizes = []
    of_folds = new_clips.ReadClips.of_folds
    monkeypatch.setattr(
        new_clips.ReadClips, "of_folds", lambda self, fitted: sizes.append(len(self.present)) or of_folds(self, fitted)
    )
    predict("plain", [f"{i:05d}" for i in range(40)], "cpu")
    assert sizes == [16, 16, 8]
    sizes.clear()
    predict("plain", "clips", "cpu")
    assert sizes == [32, 8]


def test_the_best_run_of_a_sweep_is_taken_and_noted(home):
    base = config(home / "caches/synthetic.h5", out="sweep")
    folder = sweep(SweepConfig(base, ("concat",), ("naive",), (None, "1:9"), (1.0,), (0.01,), (0, 1))).folder
    best, listener = best_run(folder), Listener()
    assert predict("sweep", "00003", "cpu", listener) == predict(best.folder, "00003", "cpu")
    assert listener.notes == [f"using {best.folder}, the best run by val (val accuracy {best.val['accuracy']:.3f})"]


def test_imported_embeddings_have_no_encoder_for_media(small_cache, tmp_path, monkeypatch):
    run = fit(config(small_cache)).run
    monkeypatch.chdir(tmp_path)
    Path("a00_c000").write_text("a file with the name of a cached clip")
    Path("new.mp4").write_text("media")
    known, new = predict(run, ["a00_c000", "new.mp4"], "cpu")
    assert known.pred in ("0", "1", "2")
    assert new.pred is None
    assert "audio was imported, so there is no encoder for new media; no such id" in new.note


def test_clips_of_another_cache_and_of_a_lost_one_are_not_predicted(small_cache):
    run = fit(config(small_cache, modalities="audio")).run
    remove_checksums(run, ["config.json"])
    record = json.loads((run / "config.json").read_text())
    fingerprint = record["modalities"]["audio"]["fingerprint"]
    record["modalities"]["audio"]["fingerprint"] = "of another"
    (run / "config.json").write_text(json.dumps(record))
    assert "must hold the embedding audio that the run was fitted on" in predict(run, "a00_c000", "cpu")[0].note
    record["modalities"]["audio"]["fingerprint"] = fingerprint
    record["cache"] = str(small_cache.parent / "gone.h5")
    (run / "config.json").write_text(json.dumps(record))
    assert predict(run, "a00_c000", "cpu")[0].note.endswith("gone.h5 is missing")


def test_a_run_of_the_ensemble_predicts(small_cache):
    result = fit(config(small_cache, method="ume"))
    assert predict(result.run, ["a00_c000"], "cpu")[0].pred in result.record.classes


def test_a_single_clip_has_no_share_by_permutation_and_the_note_says_so(small_cache):
    settings = {"amr_ratio": "1:4", "attribution": "permutation", "epochs": 2, "device": "cpu"}
    result = fit(FitConfig(cache=str(small_cache), **settings))
    assert result.record.config.amr_weight == 0.3
    assert 0 < result.test["share_regularized"]["audio"] < 1
    for prediction in predict(result.run, ["a10_c100", "a10_c101"]):
        assert prediction.share == {"audio": None, "video": None}
        assert prediction.note == "by permutation, a single clip has no share"
    table = pd.read_csv(result.run / "predictions.csv")
    assert table["share_audio"].isna().all()
