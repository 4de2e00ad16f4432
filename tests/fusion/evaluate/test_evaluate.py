import json
from dataclasses import replace

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from amr.common.progress import Progress
from amr.extract.cache.arrays import read_text, write_text
from amr.extract.cache.seal import seal
from amr.extract.config import ImportConfig
from amr.extract.import_embeddings import import_embeddings
from amr.fusion.config import FitConfig
from amr.fusion.evaluate import evaluate as evaluate_module
from amr.fusion.evaluate.config import EvaluateConfig
from amr.fusion.evaluate.evaluate import evaluate
from amr.fusion.evaluate.tables import differences_table, reading, reliance_table, scores_table
from amr.fusion.fit import fit
from amr.fusion.sweep.sweep import sweep
from amr.fusion.swept import SweepConfig

COMPARED = ("share_spread.audio", "one_sided")


def config(cache, **changes):
    return FitConfig(**{"cache": str(cache), "epochs": 3, "lr": 0.01, "device": "cpu", **changes})


def evaluated(folder, **changes):
    return evaluate(EvaluateConfig(folder, **{"bootstrap": 50, "noise_draws": 2, "device": "cpu", **changes})).document


def make_sweep(cache, methods=("naive", "ume", "unimodal"), ratios=(None, "1:1"), seeds=(0, 1), **changes):
    base = config(cache, **changes)
    return sweep(SweepConfig(base, (base.head,), methods, ratios, (1.0,), (base.lr,), seeds)).folder


def metrics(folder, run):
    return json.loads((folder / "runs" / run / "metrics.json").read_text())


def test_a_sweep_with_folds_and_all_files_of_its_evaluation(small_cache):
    folder = make_sweep(small_cache, folds=3)
    document = evaluated(folder)
    assert json.loads((folder / "evaluation.json").read_text()) == document
    assert (document["num_clips"], document["settings"]["folds"]) == (120, 3)
    assert document["settings"]["resampled"] == "groups"
    assert [run["run"] for run in document["runs"]] == list(pd.read_csv(folder / "results.csv")["run"].unique())
    arrays = np.load(folder / "evaluation.npz")
    for r, run in enumerate(document["runs"]):
        test, measures = metrics(folder, run["run"])["test"], run["measures"]
        for name in ("accuracy", "map", "f1"):
            assert measures[name] == pytest.approx(test[name], abs=1e-5)
        right = arrays["preds"][r] == arrays["target"]
        assert np.mean([right[arrays["fold"] == k].mean() for k in range(3)]) == pytest.approx(test["accuracy"])
        low, high = run["intervals"]["accuracy"]
        assert low <= measures["accuracy"] <= high
        if run["method"] == "unimodal":
            assert "missing" not in measures
            assert not {"share", "share_spread", "one_sided"} & set(measures)
            assert measures["gain_over_ume"] is None
            continue
        for name in ("share", "share_logit", "share_spread", "one_sided", "perceptual"):
            assert measures[name] == pytest.approx(test[name], abs=1e-5), name
        own = {m: np.nanmean(arrays["shares"][r, :, i]) for i, m in enumerate(document["modalities"])}
        assert own == pytest.approx(test["share"], abs=0.02)
    tidy = pd.read_csv(folder / "evaluation.csv")
    assert set(tidy["run"]) == {run["run"] for run in document["runs"]}
    assert {"run", "head", "method", "modalities", "amr_ratio", "amr_weight", "lr", "seed"} < set(tidy)
    assert not tidy.duplicated(["run", "measure"]).any()


def test_groups_and_comparisons_agree_with_the_runs(small_cache):
    document = evaluated(make_sweep(small_cache, folds=3))
    plain, with_amr = (
        [run for run in document["runs"] if run["method"] == "naive" and run["amr_ratio"] == ratio]
        for ratio in (None, "1:1")
    )
    group = next(g for g in document["groups"] if g["method"] == "naive" and g["amr_ratio"] == "1:1")
    assert group["seeds"] == [0, 1]
    mean = np.mean([run["measures"]["accuracy"] for run in with_amr])
    assert group["mean"]["accuracy"] == pytest.approx(mean, abs=1e-5)
    assert {entry["amr_ratio"] for entry in document["comparisons"]} == {"1:1"}
    by_measure = {entry["measure"]: entry for entry in document["comparisons"]}
    for name, value in (("accuracy", lambda m: m["accuracy"]), ("share.audio", lambda m: m["share"]["audio"])):
        entry = by_measure[name]
        difference = np.mean(
            [value(a["measures"]) - value(b["measures"]) for a, b in zip(with_amr, plain, strict=True)]
        )
        assert entry["num_pairs"] == 6
        assert entry["difference"] == pytest.approx(difference, abs=1e-5)
    assert by_measure["map"]["p_corrected"] == by_measure["map"]["p"]  # one setting: a family of one
    columns, rows = scores_table(document)
    assert len(rows) == len(document["groups"])
    assert {len(row) for row in rows} == {len(columns)}
    columns, rows = differences_table(document)
    assert [len(row) for row in rows] == [len(columns)] * 2
    assert [row[:4] for row in rows] == [
        ["naive, AMR audio=1:video=1", 6, f"{by_measure['accuracy']['difference']:+.3f}", "audio"],
        ["", "", "", "video"],
    ]
    assert "alone       accuracy with it alone" in reading(document)
    assert "no *" not in reading(document)
    few = document | {"comparisons": [entry | {"num_pairs": 2} for entry in document["comparisons"]]}
    assert reading(few).endswith("no *: 2 pairs are too few for a paired test, which needs three")


@pytest.mark.parametrize("folds", [0, 3])
def test_a_single_run_is_measured_as_in_its_sweep(small_cache, folds):
    folder = make_sweep(small_cache, folds=folds)
    for run in evaluated(folder)["runs"]:
        single = evaluated(folder / "runs" / run["run"])["runs"][0]
        assert flat(single["measures"]) == pytest.approx(flat(run["measures"]), abs=2e-5, nan_ok=True)
        assert single["intervals"].keys() == run["intervals"].keys()


def flat(measures, prefix=""):
    result = {}
    for name, value in measures.items():
        items = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else None
        key = f"{prefix}{name}"
        result |= {key: np.nan if value is None else value} if items is None else flat(dict(items), f"{key}.")
    return result


def test_one_sided_clips_are_compared_only_if_both_ask_for_even_shares(small_cache):
    document = evaluated(make_sweep(small_cache, ("naive",), (None, "1:1", "1:3")), bootstrap=0)
    ratios = {name: {e["amr_ratio"] for e in document["comparisons"] if e["measure"] == name} for name in COMPARED}
    assert ratios == {"share_spread.audio": {"1:1", "1:3"}, "one_sided": {"1:1"}}


@pytest.mark.parametrize("method", ["naive", "ogm-ge"])
def test_the_gain_is_over_the_same_ume_whether_from_the_sweep_or_trained_for_it(small_cache, method):
    settings = {"adapter": "linear", "lr": None, "folds": 3}
    with_ume = evaluated(make_sweep(small_cache, (method, "ume"), **settings))
    without = evaluated(make_sweep(small_cache, (method,), **settings))
    accuracies = {run["seed"]: run["measures"]["accuracy"] for run in with_ume["runs"] if run["method"] == "ume"}
    for run, trained in zip([r for r in with_ume["runs"] if r["method"] == method], without["runs"], strict=True):
        gain = run["measures"]["gain_over_ume"]
        assert gain == pytest.approx(run["measures"]["accuracy"] - accuracies[run["seed"]], abs=1e-5)
        assert trained["measures"]["gain_over_ume"] == pytest.approx(gain, abs=1e-5)


@pytest.mark.parametrize("head", ["attention", "gated"])
def test_steps_gaps_and_three_modalities(workspace, head):
    rng = np.random.default_rng(0)
    target = np.arange(90) % 3
    names = ("audio", "text", "video")
    for name in names:
        np.save(workspace / f"{name}.npy", (rng.normal(size=(90, 4, 5)) + target[:, None, None]).astype(np.float32))
    np.savetxt(workspace / "labels.txt", target, fmt="%d")
    cache = workspace / "caches" / "steps.h5"
    import_embeddings(
        ImportConfig(
            embeddings=tuple(f"{name}={workspace / name}.npy" for name in names),
            labels=str(workspace / "labels.txt"),
            splits="train=50,val=10,test=30",
            out=str(cache),
        )
    )
    document = evaluated(fit(config(cache, head=head)).run)
    run = document["runs"][0]
    measures = run["measures"]
    assert set(measures["missing"]["zero"]) == {
        "audio", "text", "video", "audio+text", "audio+video", "text+video", "audio+text+video",
    }  # fmt: skip
    assert set(measures["conflict"]) == {"audio/text", "audio/video", "text/video"}
    assert len(measures["noise"]["text"]) == 5
    assert document["settings"]["resampled"] == "clips"
    columns, rows = reliance_table(document)
    assert [row[columns.index("modality")] for row in rows] == list(names)
    phi = measures["shapley"]["permutation"]
    gained = measures["accuracy"] - measures["nothing"]["permutation"]
    assert sum(phi.values()) == pytest.approx(gained, abs=1e-5)


def test_no_bootstrap_has_no_intervals_and_one_seed_no_interval_over_seeds(small_cache):
    document = evaluated(fit(config(small_cache)).run, bootstrap=0)
    assert document["runs"][0]["intervals"] == {}
    assert document["groups"][0]["interval"]["accuracy"] is None
    assert document["comparisons"] == []


def test_another_seed_draws_other_inputs(small_cache):
    run = fit(config(small_cache)).run
    first, again, other = (evaluated(run, seed=seed)["runs"][0] for seed in (0, 0, 1))
    assert first == again
    assert first["measures"]["noise"] != other["measures"]["noise"]
    assert first["measures"]["accuracy"] == other["measures"]["accuracy"]


def test_folders_without_runs_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="RUN must be the folder of a run or of a sweep"):
        evaluated(tmp_path)
    with pytest.raises(FileNotFoundError, match="RUN must be the folder of a run or of a sweep"):
        evaluated(tmp_path / "nothing")
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(ValueError, match="RUN must hold a finished run"):
        evaluated(tmp_path)


def test_an_unfinished_run_and_a_lost_cache_are_refused(small_cache):
    run = fit(config(small_cache)).run
    away = small_cache.with_suffix(".away")
    small_cache.rename(away)
    with pytest.raises(FileNotFoundError, match=r"RUN must have its cache at .*, got no file there"):
        evaluated(run)
    away.rename(small_cache)
    (run / "metrics.json").unlink()
    with pytest.raises(FileNotFoundError, match="RUN must be a finished run"):
        evaluated(run)


def roll_column(file, name, number):
    """Give each clip the value of another."""
    values = np.roll(read_text(file["clips"][name]), number)
    del file[f"clips/{name}"]
    write_text(file["clips"], name, values)
    seal(file)


def test_a_cache_with_other_splits_is_refused(small_cache):
    run = fit(config(small_cache)).run
    with h5py.File(small_cache, "r+") as cache:
        roll_column(cache, "split", 20)
    with pytest.raises(ValueError, match="must hold the embeddings, labels and splits that"):
        evaluated(run)


def test_a_cache_with_other_labels_is_refused(small_cache):
    run = fit(config(small_cache)).run
    with h5py.File(small_cache, "r+") as cache:
        roll_column(cache, "columns/label", 1)
    with pytest.raises(ValueError, match="must hold the embeddings, labels and splits that"):
        evaluated(run)


@pytest.mark.parametrize("votes", [(), ("votes_voice_happy",)])
def test_a_cache_without_votes_that_fit_is_refused_before_anything_is_measured(small_cache, monkeypatch, votes):
    run = fit(config(small_cache)).run
    with h5py.File(small_cache, "r+") as cache:
        for name in votes:
            cache["clips/columns"].copy("parity", name)
        seal(cache)
    monkeypatch.setattr(evaluate_module, "measure_group", None)
    message = (
        "must be a column for each class" if votes else "--against people must find columns .* amr import again with"
    )
    with pytest.raises(ValueError, match=message):
        evaluated(run, against="people")


def test_results_go_to_another_folder_on_request(small_cache, workspace):
    run = fit(config(small_cache)).run
    before = sorted(run.iterdir())
    result = evaluate(EvaluateConfig(run.name, out="elsewhere", bootstrap=0, noise_draws=1, device="cpu"))
    assert result.folder == workspace / "runs/elsewhere"
    names = ["SHA256SUMS", *(f"evaluation.{each}" for each in ("csv", "json", "npz"))]
    assert sorted(file.name for file in result.folder.iterdir()) == names
    assert sorted(run.iterdir()) == before
    assert result.document["source"] == run.name


def test_the_runs_that_a_sweep_lacks_are_counted(small_cache):
    notes = []
    progress = Progress()
    progress.note = notes.append
    folder = make_sweep(small_cache, ("naive",))
    assert evaluated(folder)["num_unfinished"] == 0
    for run in ("naive_concat_plain_seed1", "naive_concat_amr-1-1_seed1"):
        (folder / "runs" / run / "metrics.json").unlink()
    document = evaluate(EvaluateConfig(folder, bootstrap=0, noise_draws=1, device="cpu"), progress).document
    assert document["num_unfinished"] == 2
    assert len(document["runs"]) == 2
    assert notes[0].startswith("2 of 4 runs are left out: they are not finished, or diverged.")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same_measures(small_cache):
    folder = make_sweep(small_cache, folds=3)
    on_cpu = evaluated(folder)["runs"]
    on_gpu = evaluate(replace(EvaluateConfig(folder, bootstrap=50, noise_draws=2), device="cuda")).document["runs"]
    for cpu, gpu in zip(on_cpu, on_gpu, strict=True):
        assert flat(gpu["measures"]) == pytest.approx(flat(cpu["measures"]), abs=0.02, nan_ok=True)
