import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from amr.fusion.config import FitConfig
from amr.fusion.fit import fit
from amr.fusion.predict import predict
from amr.fusion.runs.record import RunRecord
from amr.fusion.runs.weights import read_fitted


def config(cache, **changes):
    return FitConfig(**{"cache": str(cache), "epochs": 8, "lr": 0.01, "device": "cpu", **changes})


def test_a_run_folder_holds_the_results(small_cache):
    result = fit(config(small_cache, amr_ratio="audio=1:video=3"))
    assert json.loads((result.run / "metrics.json").read_text()) == {"val": result.val, "test": result.test}
    record = RunRecord.read(result.run)
    assert record.config == result.record.config
    assert record.config.modalities == "audio,video"
    assert record.classes == ("0", "1", "2")
    history = pd.read_csv(result.run / "history.csv")
    assert len(history) == 8
    assert history["chosen"].sum() == 1
    predictions = pd.read_csv(result.run / "predictions.csv")
    tested = predictions[predictions["part"] == "test"]
    assert (tested["target"] == tested["pred"]).mean() == pytest.approx(result.test["accuracy"])
    assert tested["share_audio"].mean() == pytest.approx(result.test["share"]["audio"], abs=1e-4)
    assert result.test["accuracy"] > 0.7


def test_the_only_cache_is_found_and_the_same_request_gives_the_same_run(small_cache):
    first, second = fit(FitConfig(epochs=3, device="cpu")), fit(FitConfig(epochs=3, device="cpu"))
    assert first.run != second.run
    assert (first.val, first.test) == (second.val, second.test)


def test_weight_zero_equals_no_ratio_bit_for_bit(small_cache):
    plain = fit(config(small_cache))
    control = fit(config(small_cache, amr_ratio="1:1", amr_weight=0.0))
    weights = [read_fitted(result.run).models[0].run_state(0) for result in (plain, control)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert plain.test == control.test


@pytest.mark.parametrize("folds", [0, 4])
@pytest.mark.parametrize("adapter", ["none", "linear"])
def test_predicting_cached_clips_repeats_the_run_s_predictions(small_cache, folds, adapter):
    result = fit(config(small_cache, folds=folds, adapter=adapter, amr_ratio="1:1"))
    ids = ["a11_c119", "a00_c000", "a11_c119"]
    predictions = predict(result.run, ids, "cpu")
    assert [p.clip for p in predictions] == ids
    assert predictions[0] == predictions[2]
    assert sum(predictions[1].probabilities.values()) == pytest.approx(1, abs=1e-5)
    if folds == 0:
        table = pd.read_csv(result.run / "predictions.csv", dtype={"pred": str}).set_index("id")
        assert predictions[0].pred == table.loc["a11_c119", "pred"]
        assert predictions[0].probability == pytest.approx(table.loc["a11_c119", "probability"], abs=1e-4)
        assert predictions[0].share["audio"] == pytest.approx(table.loc["a11_c119", "share_audio"], abs=1e-4)
    else:
        assert "mean over 4 folds" in predictions[0].note


def test_folds_test_every_clip_and_report_their_mean(small_cache):
    result = fit(config(small_cache, folds=3))
    assert len(result.folds) == 3
    assert result.test["num_clips"] == 120
    assert result.test["accuracy"] == pytest.approx(sum(f["test"]["accuracy"] for f in result.folds) / 3)
    tested = pd.concat(pd.read_csv(result.run / f"fold-{k}" / "predictions.csv") for k in range(3))
    assert sorted(tested[tested["part"] == "test"]["id"]) == sorted(tested["id"].unique())
    assert "folds" in result.to_json()


def test_another_label_needs_no_new_cache(small_cache):
    result = fit(config(small_cache, label="parity"))
    assert result.record.classes == ("even", "odd")


def test_a_single_modality(small_cache):
    result = fit(config(small_cache, method="unimodal", modalities="audio"))
    assert result.test["share"] == {"audio": pytest.approx(1)}
    assert fit(config(small_cache, modalities="audio")).test["accuracy"] == result.test["accuracy"]


def test_out_replaces_a_run_and_nothing_else(small_cache, tmp_path):
    folder = tmp_path / "mine"
    fit(config(small_cache, out=str(folder)))
    fit(config(small_cache, out=str(folder), seed=1), overwrite=True)
    assert RunRecord.read(folder).config.seed == 1
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").touch()
    with pytest.raises(ValueError, match="--out must be new"):
        fit(config(small_cache, out=str(tmp_path / "thesis")))


def test_out_without_a_slash_is_a_name_in_the_workspace(small_cache, workspace, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    result = fit(config(small_cache, out="mine", epochs=1))
    assert result.run == workspace / "runs" / "mine"
    assert result.record.config.out == str(workspace / "runs" / "mine")
    assert fit(config(small_cache, out="runs/mine", epochs=1)).run.absolute() == Path("runs/mine").absolute()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": "concta"}, "Did you mean concat"),
        ({"method": "niave"}, "Did you mean naive"),
        ({"amr_ratio": "1:1:1"}, "one part for each of audio, video"),
        ({"method": "unimodal"}, "must name one modality"),
        ({"method": "unimodal", "modalities": "audio", "amr_ratio": "1:1"}, "must be left out"),
        ({"split_policy": "actor"}, "--split-policy must be one of default"),
        ({"method_option": ("p=1",)}, "--method-option must be left out for naive, which has none, got 'p=1'"),
        ({"attribution_baseline": "mean"}, "used with --attribution integrated_gradients or shapley, got mean"),
        ({"attribution_steps": 3, "attribution": "shapley"}, "used with --attribution integrated_gradients, got 3"),
        ({"method": "dropout", "method_option": ("p",)}, "must be KEY=VALUE, got 'p'. Pass for example p=0.5."),
        ({"attribution_pooling": "l1", "attribution": "shapley"}, "used with --attribution grad_x_input or integrated"),
    ],
)
def test_requests_that_the_cache_cannot_meet(small_cache, changes, message):
    with pytest.raises(ValueError, match=message):
        fit(config(small_cache, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "--epochs must be from 1 to 1000000, got 0"),
        ({"lr": 0.0}, "--lr must be above 0"),
        ({"lr": float("nan")}, "--lr must be finite and above 0, got nan"),
        ({"folds": 2}, "at least 3"),
        ({"adapter": "liner"}, "Did you mean linear"),
        ({"amr_weight": -1.0}, "--amr-weight must be 0 or more"),
    ],
)
def test_requests_that_no_cache_could_meet(changes, message):
    with pytest.raises(ValueError, match=message):
        FitConfig(**changes)


def test_out_never_deletes_files_that_are_not_of_a_run(small_cache, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "x"}')
    with pytest.raises(ValueError, match="--out must be new"):
        fit(config(small_cache, out=str(model)))
    with pytest.raises(ValueError, match="is not one of amr fit"):
        RunRecord.read(model)
    mine = tmp_path / "mine"
    fit(config(small_cache, out=str(mine), folds=3))
    (mine / "notes.txt").write_text("dear diary")
    with pytest.raises(ValueError, match="--out must be new"):
        fit(config(small_cache, out=str(mine)))
    (mine / "notes.txt").unlink()
    fit(config(small_cache, out=str(mine)), overwrite=True)
    assert not (mine / "fold-0").exists()


def test_divergence_in_the_last_step_is_a_runtime_error(small_cache):
    with pytest.raises(RuntimeError, match="smaller --lr"):
        fit(config(small_cache, optimizer="sgd", lr=1e38, epochs=1, batch_size=1000))
