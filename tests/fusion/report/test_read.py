from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from amr.fusion.report.read import read_results
from amr.fusion.report.settings import settings_of
from amr.fusion.swept import SweepConfig

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "v0_1_0"


def test_a_sweep_is_read_with_and_without_an_evaluation(made):
    plain, with_evaluation = read_results(made("a")), read_results(made("b", p_corrected=0.5))
    assert len(plain.runs) == 10
    assert plain.modalities == ("audio", "video")
    assert plain.evaluation is None
    assert plain.decisions is None
    assert "missing.zero.audio" not in plain.runs[0].measures
    assert with_evaluation.runs[0].measures["missing.zero.audio"] == 0.7
    assert with_evaluation.runs[0].measures["accuracy"] == plain.runs[0].measures["accuracy"]
    mine = with_evaluation.decisions.of([with_evaluation.runs[3].name])
    assert mine.preds.shape == (1, 30)
    with np.load(with_evaluation.folder / "evaluation.npz") as arrays:
        order = [run["run"] for run in with_evaluation.evaluation["runs"]]
        np.testing.assert_array_equal(mine.preds[0], arrays["preds"][order.index(mine.runs[0])])


def test_a_real_sweep_agrees_with_its_results_and_a_member_can_be_read_separately(small_cache):
    from amr.fusion.sweep.sweep import sweep

    swept = {"amr_ratio": "none,1:1", "method": "naive,unimodal"}
    result = sweep(SweepConfig.parse(seeds=2, swept=swept, epochs=2, cache=str(small_cache)))
    results = read_results(result.folder)
    test = result.table[result.table["part"] == "test"].set_index("run")
    assert [run.name for run in results.runs] == list(test.index)
    for run in results.runs:
        assert run.measures["accuracy"] == pytest.approx(test.loc[run.name, "accuracy"])
        assert len(run.history()) == 2
    means = test.groupby(["method", "modalities", "amr_ratio"], sort=False)["accuracy"].mean()
    assert [setting.mean("accuracy") for setting in settings_of(results)] == pytest.approx(list(means))
    member = read_results(results.runs[0].folder)
    assert member.sweep is None
    assert member.runs[0].measures == results.runs[0].measures


def test_folds_are_averaged_in_history_and_concatenated_in_predictions(made):
    results = read_results(made())
    run = results.runs[0]
    whole = run.history()
    for k in (0, 1):
        (run.folder / f"fold-{k}").mkdir()
        shutil.copy(run.folder / "history.csv", run.folder / f"fold-{k}")
        (run.folder / f"fold-{k}" / "predictions.csv").write_text(
            "id,part,target,pred,probability,share_audio,share_video\n"
            f"NA{k},test,moo,bark,0.5,0.4,0.6\n07,val,moo,moo,0.5,,\n"
        )
    (run.folder / "history.csv").unlink()
    np.testing.assert_allclose(run.history()["val_loss"], whole["val_loss"])
    assert list(run.predictions()["id"]) == ["NA0", "NA1"]


def test_folders_without_results_are_refused(tmp_path, made):
    with pytest.raises(FileNotFoundError, match="DIR must be a folder, got"):
        read_results(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"DIR must hold config\.json"):
        read_results(tmp_path)
    folder = made()
    for file in folder.glob("runs/*/metrics.json"):
        file.unlink()
    with pytest.raises(ValueError, match="DIR must hold a finished run"):
        read_results(folder)
    (folder / "sweep.json").write_text("{")
    with pytest.raises(ValueError, match="DIR must hold whole files"):
        read_results(folder)


def test_unfinished_runs_are_left_out(made):
    folder = made()
    file = next(folder.glob("runs/*/metrics.json"))
    file.unlink()
    assert file.parent.name not in {run.name for run in read_results(folder).runs}
    assert json.loads((file.parent / "config.json").read_text())["classes"]


def test_an_evaluation_of_version_0_1_has_alone_use_shares_and_shapley_use_shares():
    results = read_results(FIXTURES / "workspace" / "runs" / "sweep")
    assert "alone" not in results.evaluation["runs"][0]["measures"]
    for run in results.runs:
        uses = {m: run.measures[f"perceptual.{m}"] for m in run.modalities}
        total = sum(max(use, 0) for use in uses.values())
        for m in run.modalities:
            assert run.measures[f"alone.{m}"] == run.measures[f"missing.mean.{m}"]
            assert run.measures.get(f"shapley_use_share.{m}") == run.measures.get(f"shapley_share.permutation.{m}")
            assert run.measures.get(f"use_share.{m}") == (pytest.approx(max(uses[m], 0) / total) if total > 0 else None)
    named = {test["measure"].partition(".")[0] for test in results.comparisons}
    assert {"alone", "shapley_use_share"} <= named


def test_a_fit_without_an_evaluation_has_use_shares(made):
    run = read_results(made()).runs[0]
    assert run.measures["use_share.audio"] == pytest.approx(0.5 / 0.55)


def test_what_an_evaluation_says_of_use_shares_is_kept(made):
    folder = made(p_corrected=0.5)
    document = json.loads((folder / "evaluation.json").read_text())
    for run in document["runs"]:
        run["measures"]["use_share"] = {"audio": 0.6, "video": 0.4}
    (folder / "evaluation.json").write_text(json.dumps(document))
    assert read_results(folder).runs[0].measures["use_share.audio"] == 0.6
