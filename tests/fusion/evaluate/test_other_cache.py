"""Measures on another cache than that of the fit."""

import shutil

import h5py
import numpy as np
import pytest

from amr.common.progress import Progress
from amr.extract.cache.arrays import write_text
from amr.extract.cache.reader import Cache
from amr.extract.cache.seal import seal
from amr.fusion.config import FitConfig
from amr.fusion.data.clips import Clips
from amr.fusion.data.dataset import read_dataset
from amr.fusion.evaluate.config import EvaluateConfig
from amr.fusion.evaluate.evaluate import evaluate
from amr.fusion.fit import fit
from amr.fusion.model import predict_logits
from amr.fusion.runs.weights import read_fitted
from amr.fusion.sweep.sweep import sweep
from amr.fusion.swept import SweepConfig
from amr.fusion.tasks.metrics import accuracy

# The mean and the deviation of the train clips are 0 and 1 by the normalization: the same up to rounding.
SAME = (
    "accuracy",
    "map",
    "f1",
    "share",
    "share_logit",
    "share_spread",
    "one_sided",
    "perceptual",
    "conflict",
    "nothing",
)


def config(cache, **changes):
    return FitConfig(**{"cache": str(cache), "epochs": 3, "lr": 0.01, "device": "cpu", **changes})


def evaluated(run, **changes):
    settings = {"bootstrap": 20, "noise_draws": 1, "device": "cpu"} | changes
    return evaluate(EvaluateConfig(run, **settings))


@pytest.fixture
def copied(small_cache):
    """The same clips in another file."""
    return shutil.copy(small_cache, small_cache.with_name("other.h5"))


def test_a_copy_of_the_cache_gives_the_measures_of_its_test_clips(small_cache, copied, workspace):
    run = fit(config(small_cache, amr_ratio="1:3")).run
    before = sorted(run.iterdir())
    result = evaluated(run, cache="other")
    assert sorted(run.iterdir()) == before
    assert result.folder == workspace / f"runs/{run.name}_on_other"
    own = evaluated(run).document
    (mine,), (other,) = own["runs"], result.document["runs"]
    for name in SAME:
        assert other["measures"][name] == mine["measures"][name]
    assert other["measures"]["alone"] == pytest.approx(mine["measures"]["alone"])
    assert other["measures"]["robustness"] == pytest.approx(mine["measures"]["robustness"], abs=0.02)
    assert other["measures"]["nothing"]["permutation"] == mine["measures"]["nothing"]["permutation"]
    assert other["intervals"]["accuracy"] == mine["intervals"]["accuracy"]
    assert other["measures"]["gain_over_ume"] is None
    assert "information" not in other["measures"]
    assert result.document["num_clips"] == own["num_clips"]
    assert (result.document["cache"], result.document["fitted_on"]) == (str(copied), str(small_cache))
    assert own["fitted_on"] == own["cache"] == str(small_cache)


def set_column(file, name, *values):
    """Replace a column of the clips; one value is that of all."""
    num_clips = len(file["clips/id"])
    del file[f"clips/{name}"]
    write_text(file["clips"], name, values if len(values) == num_clips else values * num_clips)
    seal(file)


def test_with_folds_each_head_is_measured_on_all_clips(small_cache, copied):
    with h5py.File(copied, "r+") as file:
        set_column(file, "split", "")
    run = fit(config(small_cache, folds=3)).run
    result = evaluated(run, cache=str(copied))
    document = result.document
    fitted = read_fitted(run)
    with Cache.open(copied) as cache:
        dataset = read_dataset(cache)
    expected = []
    for model, normalization in zip(fitted.models, fitted.normalizations, strict=True):
        present = normalization.mask(dataset.present)
        clips = Clips(normalization.apply(dataset.embeddings, present), present, dataset.target)
        expected.append(float(accuracy(predict_logits(model, clips), clips.target)))
    assert document["runs"][0]["measures"]["accuracy"] == pytest.approx(np.mean(expected), abs=1e-6)
    assert document["num_clips"] == 120
    arrays = np.load(result.folder / "evaluation.npz")
    assert arrays["preds"].shape == (1, 360)
    right = arrays["preds"][0] == arrays["target"]
    assert [right[arrays["fold"] == k].mean() for k in range(3)] == pytest.approx(expected)
    assert not np.isnan(arrays["shares"].astype(float)).any()


def test_clips_that_do_not_fit_into_memory_have_the_same_measures(small_cache, copied, monkeypatch):
    run = fit(config(small_cache, folds=3, head="film")).run
    expected = evaluated(run, cache=str(copied)).document
    monkeypatch.setattr("amr.fusion.data.folds.memory_at_hand", lambda: 0)
    notes, progress = [], Progress()
    progress.note = notes.append
    settings = EvaluateConfig(run, cache=str(copied), bootstrap=20, noise_draws=1, device="cpu")
    assert evaluate(settings, progress).document == expected
    assert any("do not fit into memory: they lie in temporary files" in note for note in notes)


def test_runs_of_a_sweep_are_paired_by_seed_only(small_cache, copied, workspace):
    base = config(small_cache, folds=3)
    folder = sweep(
        SweepConfig(base, ("concat",), ("naive", "unimodal", "ume"), (None, "1:1"), (None,), (base.lr,), (0, 1, 2))
    ).folder
    result = evaluated(folder, cache=str(copied))
    assert result.folder == workspace / f"runs/{folder.name}_on_other"
    by_measure = {entry["measure"]: entry for entry in result.document["comparisons"]}
    assert by_measure["accuracy"]["num_pairs"] == 3
    single = evaluated(folder / "runs" / result.document["runs"][0]["run"], cache=str(copied))
    assert single.folder.name == f"{folder.name}_{result.document['runs'][0]['run']}_on_other"
    accuracies = [document["runs"][0]["measures"]["accuracy"] for document in (single.document, result.document)]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=1e-5)


def test_clips_of_unknown_classes_are_left_out_with_a_note(small_cache, copied):
    run = fit(config(small_cache)).run
    with h5py.File(copied, "r+") as file:
        set_column(file, "columns/label", *["7", "2"] * (len(file["clips/id"]) // 2))
        set_column(file, "split", "")
    notes = []
    progress = Progress()
    progress.note = notes.append
    settings = EvaluateConfig(run, cache=str(copied), bootstrap=0, noise_draws=1, device="cpu")
    document = evaluate(settings, progress).document
    assert document["num_clips"] == 60
    assert document["classes"] == ["0", "1", "2"]
    assert "60 clips of other.h5 are left out: no run knows their classes (7)" in notes
    assert "120 of 120 clips have ids of the fit's cache: are they other clips?" in notes


def test_the_own_cache_is_refused_and_need_not_be_there(small_cache, copied):
    run = fit(config(small_cache)).run
    with pytest.raises(ValueError, match="--cache must be another cache than that of the fit"):
        evaluated(run, cache=small_cache.stem)
    small_cache.unlink()
    assert evaluated(run, cache=str(copied)).document["num_clips"] > 0
    with pytest.raises(ValueError, match="--against must be left out with --cache"):
        EvaluateConfig(run, cache="other", against="people")
