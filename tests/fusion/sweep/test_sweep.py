import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from amr.common.progress import Progress
from amr.console.output import say_results
from amr.fusion.config import FitConfig
from amr.fusion.fit import fit
from amr.fusion.runs.read import best_run, read_runs
from amr.fusion.runs.weights import read_fitted
from amr.fusion.sweep.summary import best_by_val, write_picture
from amr.fusion.sweep.sweep import sweep
from amr.fusion.swept import SweepConfig


def config(cache, *, seeds=None, group_size=None, fixed=None, **swept):
    fixed = {"cache": str(cache), "epochs": 4, "device": "cpu", **(fixed or {})}
    return SweepConfig.parse(seeds=seeds, group_size=group_size, swept=swept, **fixed)


def test_members_are_all_combinations_and_weights_vary_only_with_a_ratio(small_cache):
    request = config(small_cache, amr_ratio="none,1:1", amr_weight="0.5,2", lr="0.01,0.1", seeds=3)
    members = request.members()
    assert len(members) == 2 * 3 + 2 * 2 * 3
    assert {m.seed for m in members} == {0, 1, 2}
    assert {m.amr_weight for m in members if m.amr_ratio is None} == {None}


@pytest.mark.parametrize("group_size", [None, 2])
@pytest.mark.parametrize("fixed", [{}, {"adapter": "mlp", "hidden": 5}, {"folds": 3}, {"amr_optimizer": "separate"}])
def test_a_run_of_a_sweep_equals_that_of_amr_fit(small_cache, group_size, fixed):
    result = sweep(config(small_cache, amr_ratio="none,1:1,3:1", seeds=2, group_size=group_size, fixed=fixed))
    table = result.table
    assert len(table) == 3 * 2 * 2
    for ratio in ("none", "3:1"):
        settings = {name: value for name, value in fixed.items() if ratio != "none" or name != "amr_optimizer"}
        single = fit(FitConfig(cache=str(small_cache), epochs=4, device="cpu", amr_ratio=ratio, seed=1, **settings))
        rows = table[(table["amr_ratio"] == ratio) & (table["seed"] == 1)].set_index("part")
        for split, measures in (("val", single.val), ("test", single.test)):
            assert rows.loc[split, "accuracy"] == pytest.approx(measures["accuracy"])
            assert rows.loc[split, "map"] == pytest.approx(measures["map"], abs=1e-6)
            assert rows.loc[split, "share_audio"] == pytest.approx(measures["share"]["audio"], abs=1e-4)
        member = read_fitted(result.folder / "runs" / rows["run"].iloc[0])
        for ours, theirs in zip(member.models, read_fitted(single.run).models, strict=True):
            for name, value in theirs.run_state(0).items():
                torch.testing.assert_close(ours.run_state(0)[name], value, rtol=1e-3, atol=1e-5)


def test_values_that_agree_in_six_digits_are_different_runs(small_cache):
    swept = {"amr_ratio": "1:1", "lr": "0.1,0.1000001", "amr_weight": "0.5,0.50000001"}
    result = sweep(config(small_cache, fixed={"epochs": 1}, **swept))
    assert result.table["run"].nunique() == 4
    assert result.table.drop_duplicates("run")["lr"].nunique() == 2
    assert len(list((result.folder / "runs").iterdir())) == 4


def test_an_interrupted_sweep_continues_to_the_same_results(small_cache, monkeypatch):
    request = config(small_cache, amr_ratio="none,1:1", seeds=3, group_size=2)
    whole = sweep(request)
    results = (whole.folder / "results.csv").read_bytes()

    class Stopping(Progress):
        def advance(self, amount, failures=0):
            if any(Path(again.base.out).rglob("metrics.json")):
                raise KeyboardInterrupt

    again = config(small_cache, amr_ratio="none,1:1", seeds=3, group_size=2, fixed={"out": str(whole.folder) + "-2"})
    with pytest.raises(KeyboardInterrupt):
        sweep(again, Stopping())
    assert len(list(Path(again.base.out).glob("runs/*/config.json"))) == 6, "who reads it sees what is missing"
    started = []

    class Counting(Progress):
        def start(self, total, done=0, unit="clips"):
            started.append((total, done))

    resumed = sweep(again, Counting())
    assert started[0][0] == 6
    assert 2 <= started[0][1] < 6
    assert (resumed.folder / "results.csv").read_bytes() == results
    assert sweep(request).rows == whole.rows


def test_out_without_a_slash_is_a_name_in_the_workspace(small_cache, workspace):
    assert sweep(config(small_cache, seeds=1, fixed={"out": "mine"})).folder == workspace / "runs" / "mine"


def test_a_ratio_that_is_typed_in_several_ways_is_fitted_once(small_cache):
    result = sweep(config(small_cache, amr_ratio="audio=1:video=1,1:1,2:2,none,1:3", seeds=1, fixed={"epochs": 1}))
    assert list(result.table["amr_ratio"].unique()) == ["audio=1:video=1", "none", "1:3"]
    assert len(list((result.folder / "runs").iterdir())) == 3
    assert "--amr-ratio audio=1:video=1 and 1:1, 2:2 are the same: fitted once" in result.notes


def test_out_of_another_sweep_is_refused(small_cache, tmp_path):
    folder = {"out": str(tmp_path / "s")}
    sweep(config(small_cache, seeds=1, fixed=folder))
    with pytest.raises(ValueError, match="--out must be new or of the same sweep"):
        sweep(config(small_cache, seeds=2, fixed=folder))


def test_methods_without_fusion_get_one_run_per_modality_and_no_ratio(small_cache):
    result = sweep(config(small_cache, method="naive,unimodal", amr_ratio="none,1:1", seeds=1))
    runs = result.table.drop_duplicates("run")
    assert sorted(runs["run"]) == [
        "naive_concat_amr-1-1_seed0",
        "naive_concat_plain_seed0",
        "unimodal_audio_plain_seed0",
        "unimodal_video_plain_seed0",
    ]
    assert set(runs.loc[runs["method"] == "unimodal", "head"]) == {"-"}


def test_what_some_methods_ignore_is_said_once_with_their_names(small_cache):
    settings = {"epochs": 1, "adapter": "linear", "experts": True}
    result = sweep(config(small_cache, method="reconboost,mla,naive", amr_ratio="1:1", fixed=settings))
    assert result.notes == (
        "--experts has no effect on reconboost, mla, which have heads of their own",
        "--amr-ratio has no effect on mla, which fuses nothing",
        "reconboost: --epochs 1 in stages of 1 never trains video; pass more --epochs",
    )
    assert set(result.table.loc[result.table["method"] == "mla", "amr_ratio"]) == {"none"}
    settings["experts"] = False
    both = sweep(config(small_cache, method="mla,naive", amr_ratio="none,1:1", fixed=settings))
    assert both.notes == ()


def test_results_are_tidy_and_reported(small_cache):
    result = sweep(config(small_cache, amr_ratio="none,1:3", seeds=2))
    table = pd.read_csv(result.folder / "results.csv")
    assert list(table["part"]) == ["val", "test"] * 4
    assert np.allclose(table["share_audio"] + table["share_video"], 1, atol=1e-5)
    columns, rows = best_by_val(result)
    assert len(rows) == 2
    assert columns == ["amr_ratio", "seeds", "val", "test", "mAP", "share audio/video"]
    assert {row[0] for row in rows} == {"none", "audio=1:video=3"}
    assert list(table["split"]) == list(table["part"])
    assert {row["amr_ratio"] for row in result.to_json()} == {None, "1:3"}
    assert all(row["modalities"] == ["audio", "video"] for row in result.to_json())
    best = result.table[result.table["part"] == "val"].groupby("amr_ratio")["accuracy"].mean().max()
    assert rows[0][columns.index("val")] == pytest.approx(best)
    assert write_picture(result).stat().st_size > 5000
    assert json.loads((result.folder / "sweep.json").read_text())["seed"] == [0, 1]


def test_of_settings_alike_on_val_the_first_row_is_that_of_the_best_run(small_cache, capfd, monkeypatch):
    result = sweep(config(small_cache, lr="1e-6,1e-3,0.05", seeds=1))
    for file in result.folder.glob("runs/*/metrics.json"):
        metrics = json.loads(file.read_text())
        metrics["val"]["accuracy"] = 0.5
        file.write_text(json.dumps(metrics))
        file.with_name("SHA256SUMS").unlink()
    tied = replace(result, rows=tuple(row | {"accuracy": 0.5} if row["split"] == "val" else row for row in result.rows))
    columns, rows = best_by_val(tied)
    losses = {str(run.config.lr): run.val_loss for run in read_runs(result.folder)}
    assert [row[columns.index("lr")] for row in rows] == sorted(losses, key=lambda lr: losses[lr])
    assert rows[0][columns.index("lr")] == str(best_run(result.folder).config.lr) != "1e-06"
    monkeypatch.setattr("amr.console.output.MAX_SETTINGS", 1)
    say_results(tied, as_json=False)
    out, err = capfd.readouterr()
    assert out.count("0.500") == 1
    assert "... and 2 more settings in results.csv\n" in err


@pytest.mark.parametrize(
    ("swept", "message"),
    [
        ({"seed": "0,x"}, "--seed must be whole numbers"),
        ({"lr": "0.1,"}, "--lr must be numbers"),
        ({"amr_ratio": "1:1,1"}, "--amr-ratio must have at least two parts"),
        ({"amr_weight": "-1"}, "--amr-weight must be 0 or more"),
        ({"seed": "1", "seeds": 2}, "--seeds must be used without --seed"),
        ({"seeds": 0}, "--seeds must be 1 or more"),
        ({"group_size": 0}, "--group-size must be 1 or more"),
    ],
)
def test_wrong_requests_are_refused(swept, message):
    with pytest.raises(ValueError, match=message):
        config("any", **swept)


@pytest.mark.parametrize("method", ["dropout", "modality-dropout"])
def test_dropout_of_zero_equals_naive_in_a_group(small_cache, method):
    swept = {"amr_ratio": "none,1:1", "amr_weight": "0", "seeds": 2}
    plain = sweep(config(small_cache, method="naive", **swept)).table
    zero = sweep(config(small_cache, method=method, fixed={"method_option": ("p=0",)}, **swept)).table
    assert zero["accuracy"].tolist() == plain["accuracy"].tolist()


def test_a_run_that_diverges_does_not_stop_the_others(small_cache):
    # runs of one group that differ in amr_weight only: an absurd weight makes one diverge
    request = config(small_cache, amr_ratio="1:1", amr_weight="1,1e38", lr="0.5", seeds=2, fixed={"optimizer": "sgd"})
    result = sweep(request)
    assert len(result.diverged) == 2
    assert all("1e+38" in name for name in result.diverged)
    assert len(result.rows) == 2 * 2
    assert sweep(request).rows == result.rows


def test_new_labels_make_another_sweep(small_cache, workspace):
    from amr.extract.config import ImportConfig
    from amr.extract.import_embeddings import import_embeddings

    request = config(small_cache, seeds=1)
    first = sweep(request)
    (workspace / "other.txt").write_text("".join(f"{(i // 3) % 2}\n" for i in range(120)))
    opened = tuple(f"{m}={workspace / m}.npy" for m in ("audio", "video"))
    import_embeddings(
        ImportConfig(
            embeddings=opened, labels=str(workspace / "other.txt"), ids=str(workspace / "ids.txt"),
            groups=r"ids:^a\d+", splits="train=80,val=20,test=20", out=str(small_cache), overwrite=True,
        )
    )  # fmt: skip
    assert sweep(request).folder != first.folder


def test_further_fits_have_every_seed_and_names_by_what_differs(small_cache):
    base = FitConfig(cache=str(small_cache), epochs=1, device="cpu")
    also = (
        replace(base, embedding_noise="1", seed=7),
        replace(base, weight_decay=0.5),
        replace(base, method="ume", method_option=("weights=3:1",)),
    )
    config = SweepConfig(base, seed=(0, 1), also=also)
    assert [member.seed for member in config.members()] == [0, 1] * 4
    result = sweep(config)
    assert [*dict.fromkeys(row["run"] for row in result.rows)][::2] == [
        "naive_concat_plain_seed0",
        "naive_concat_plain_noise-1_seed0",
        "naive_concat_plain_decay-0.5_seed0",
        "ume_ume_plain_weights-3-1_seed0",
    ]
    assert {row["method_option"] for row in result.rows} == {None, "weights=3:1"}
    with pytest.raises(ValueError, match="other settings of a frontier"):
        sweep(replace(config, base=replace(base, out=str(result.folder)), also=also[:1]))
