import json
from dataclasses import replace

import pandas as pd
import pytest
import torch
from scipy import stats

from amr.cli import run as amr
from amr.fusion.config import FitConfig
from amr.fusion.end_to_end.config import TrainConfig
from amr.fusion.methods import methods
from amr.fusion.sweep.sweep import SweepResult
from amr.fusion.sweep.table import TABLE_1, latex, make_table, make_table_end_to_end
from amr.fusion.tasks import tasks

from ..trainings import SMALL


@pytest.fixture
def few_methods(monkeypatch):
    """The three kinds of row: with a ratio, without one, and one per modality."""
    monkeypatch.setattr("amr.fusion.sweep.table.TABLE_1", ("unimodal", "naive", "ume"))


def test_the_table_summarizes_the_runs_of_the_sweep(small_cache, few_methods):
    table = make_table(FitConfig(cache=str(small_cache), adapter="linear", epochs=1, device="cpu"), 3)
    names = [(row["method"], row["modalities"]) for row in table.rows]
    both = ["audio", "video"]
    assert names == [("unimodal", ["audio"]), ("unimodal", ["video"]), ("naive", both), ("ume", both)]
    results = pd.read_csv(table.folder / "results.csv")
    runs = results[(results["method"] == "naive") & (results["part"] == "test")]
    naive = table.rows[2]
    for half, ratio in (("plain", "none"), ("amr", "1:1")):
        values = runs.loc[runs["amr_ratio"] == ratio, "map"]
        assert naive[half]["map"]["mean"] == pytest.approx(values.mean(), abs=1e-5)
        low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
        assert naive[half]["map"]["half_width"] == pytest.approx((high - low) / 2, abs=1e-4)
    columns, cells = table.cells()
    assert len({len(columns), *map(len, cells)}) == 1
    assert cells[0][0] == "audio only"
    assert cells[3][4:] == ["-"] * 5  # ume takes no ratio
    assert columns[4] == "mAP AMR audio=1:video=1"
    assert cells[2][3] == "/".join(f"{naive['plain']['share'][m]:.2f}" for m in ("audio", "video"))
    columns, cells = table.stacked()
    assert columns == ["method", "AMR", "mAP", "accuracy", "audio/video", "p"]
    assert [row[:2] for row in cells[2:]] == [["naive", "no"], ["", "yes"], ["ume", "no"]]
    assert "AMR audio=1:video=1" in table.title
    csv = pd.read_csv(table.folder / "table.csv")  # as in 0.1
    assert csv.columns[4] == "mAP AMR 1:1"
    assert csv["audio/video"][2] == "/".join(f"{100 * naive['plain']['share'][m]:.0f}" for m in ("audio", "video"))
    for name, mark in (("table.csv", ","), ("table.md", "| --- |"), ("table.tex", r"\toprule"), ("table.json", '"p"')):
        assert mark in (table.folder / name).read_text()


def test_without_a_ratio_there_are_only_the_columns_without_amr(small_cache, few_methods):
    config = FitConfig(cache=str(small_cache), adapter="linear", epochs=1, device="cpu")
    table = make_table(config, 2, with_amr=False)
    columns, cells = table.cells()
    assert columns == ["method", "mAP", "accuracy", "share audio/video"]
    assert {len(row) for row in cells} == {4}
    assert [row["amr"] for row in table.rows] == [None] * 4
    assert "AMR" not in (table.folder / "table.md").read_text() + table.title
    assert {row["amr_ratio"] for row in pd.read_csv(table.folder / "results.csv").to_dict("records")} == {"none"}


def test_one_modality_makes_its_unimodal_row_and_says_why(small_cache):
    config = FitConfig(cache=str(small_cache), modalities="audio", adapter="linear", epochs=1, device="cpu")
    table = make_table(config, 2)
    assert [(row["method"], row["modalities"]) for row in table.rows] == [("unimodal", ["audio"])]
    assert table.notes[0].startswith("AMR and fusion need two modalities, got audio")
    for columns, cells in (table.cells(), table.stacked()):
        assert columns == ["method", "mAP", "accuracy"]  # the share of one modality says nothing
        assert [len(row) for row in cells] == [3]
    assert "audio |" not in (table.folder / "table.md").read_text().splitlines()[0]
    assert [*pd.read_csv(table.folder / "table.csv")] == ["method", "mAP", "accuracy", "audio"]  # as in 0.1
    with pytest.raises(ValueError, match="--amr-ratio must be left out for one modality"):
        make_table(replace(config, amr_ratio="1:1"), 2)


def fake_sweep(monkeypatch, tmp_path, plain, amr):
    rows = []
    for method in ("naive", "dropout"):
        for ratio, values in (("none", plain), ("1:1", amr)):
            rows += [
                {"method": method, "modalities": "audio,video", "amr_ratio": ratio, "seed": seed, "part": "test",
                 "map": value, "accuracy": value, "share_audio": 0.6, "share_video": 0.4}
                for seed, value in enumerate(values)
            ]  # fmt: skip
    monkeypatch.setattr("amr.fusion.sweep.table.sweep", lambda *_, **__: SweepResult(tmp_path, tuple(rows)))
    monkeypatch.setattr("amr.fusion.sweep.table.modalities_of", lambda config: ("audio", "video"))
    monkeypatch.setattr("amr.fusion.sweep.table._check_test_split", lambda config: None)
    return make_table(FitConfig(cache="any"), len(plain))


def test_the_test_is_scipy_s_paired_t_with_holm_s_correction(monkeypatch, tmp_path):
    plain, amr = [0.5, 0.6, 0.55, 0.52], [0.56, 0.64, 0.58, 0.60]
    table = fake_sweep(monkeypatch, tmp_path, plain, amr)
    expected = stats.ttest_rel(amr, plain).pvalue
    for row in table.rows:
        assert row["tests"]["map"]["p"] == pytest.approx(expected)
        assert row["tests"]["map"]["p_holm"] == pytest.approx(2 * expected)
        assert row["tests"]["map"]["difference"] == pytest.approx(0.0525)


def test_equal_differences_have_no_p(monkeypatch, tmp_path):
    same = fake_sweep(monkeypatch, tmp_path, [0.5, 0.5], [0.5, 0.5])
    assert same.rows[0]["tests"]["map"]["p"] == 1
    one_seed = fake_sweep(monkeypatch, tmp_path, [0.5], [0.75])
    assert one_seed.rows[0]["tests"]["map"] == {"difference": 0.25, "d": None, "p": None, "p_holm": None}
    assert one_seed.title.startswith("test, mean of 1 seed;")
    assert [row[-1] for row in one_seed.stacked()[1]] == ["", "-", "", "-"]
    assert one_seed.rows[0]["plain"]["map"] == {"mean": 0.5, "half_width": None}


def test_differences_that_are_equal_up_to_rounding_have_no_p(monkeypatch, tmp_path):
    table = fake_sweep(monkeypatch, tmp_path, [0.7, 0.8], [0.8, 0.9])  # .8 - .7 and .9 - .8 differ in the last bit
    assert table.rows[0]["tests"]["map"]["p"] is None


@pytest.fixture
def typed(trained, capfd, monkeypatch):
    """Function that runs `amr table` on the clips of the workspace, with encoders that train quickly."""
    monkeypatch.chdir(trained)
    given = {**SMALL, "epochs": 1, "batch_size": 18, "device": "cpu"}
    encoders = [part for each in given.pop("encoder") for part in ("--encoder", each)]
    options = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]

    def call(line: str) -> tuple[int, str, str]:
        capfd.readouterr()
        status = amr(["table", *(options + encoders if "--end-to-end" in line else []), *line.split()])
        return status, *capfd.readouterr()

    return call


def test_encoders_are_trained_for_every_row(typed, tmp_path, monkeypatch):
    thirds = torch.full((3, 1), 1 / 3)  # measuring them takes 30 epochs
    monkeypatch.setattr(methods["gradient-blending"], "measure", lambda self, epoch: thirds)
    status, out, err = typed(f"--end-to-end --seeds 1 --out {tmp_path}/whole --json")
    assert status == 0, err
    rows = json.loads(out)
    names = [row["method"] for row in rows if row["method"] != "unimodal"]
    assert sorted([*names, "unimodal"]) == sorted(TABLE_1)
    assert [row["modalities"] for row in rows if row["method"] == "unimodal"] == [["audio"], ["video"]]
    assert rows == json.loads((tmp_path / "whole" / "table.json").read_text())
    for row in rows:
        fuses = methods[row["method"]].fuses
        assert (row["amr"] is not None) == (row["tests"] is not None) == fuses
        for half in ("plain", "amr")[: 1 + fuses]:
            assert 0 <= row[half]["accuracy"]["mean"] <= 1
            shares = row[half]["share"]
            if row["method"] != "unimodal":
                assert sum(shares.values()) == pytest.approx(1)
    assert {path.name for path in (tmp_path / "whole").glob("table.*")} == {
        f"table.{e}" for e in ("csv", "md", "tex", "json")
    }


def test_a_subset_of_the_rows_is_trained_with_paired_seeds(typed, tmp_path):
    line = "--end-to-end --method modality-dropout,naive --seeds 2 --amr-ratio 1:3 --attribution shapley"
    line += f" --out {tmp_path}/some"
    status, out, err = typed(f"{line} --json")
    assert status == 0, err
    assert [row["method"] for row in json.loads(out)] == ["modality-dropout", "naive"]
    results = pd.read_csv(tmp_path / "some" / "results.csv").query("split == 'test'")
    for row in json.loads(out):
        runs = results[results["method"] == row["method"]]
        plain, pulled = (runs[runs["amr_ratio"] == ratio].sort_values("seed") for ratio in ("none", "1:3"))
        assert set(pulled["attribution"]) == {"shapley"}
        for half, each in (("plain", plain), ("amr", pulled)):
            assert row[half]["share"]["audio"] == pytest.approx(each["share_audio"].mean(), abs=1e-5)
            assert row[half]["map"]["mean"] == pytest.approx(each["map"].mean(), abs=1e-5)
        difference = pulled["map"].to_numpy() - plain["map"].to_numpy()
        assert row["tests"]["map"]["difference"] == pytest.approx(difference.mean(), abs=1e-5)
        assert row["tests"]["map"]["p"] is None or 0 < row["tests"]["map"]["p"] <= row["tests"]["map"]["p_holm"] <= 1
    shown, text, err = typed(line)
    assert shown == 0
    assert "AMR audio=1:video=3" in text
    assert f"table.csv, .md, .tex and .json in {tmp_path}/some" in err


def test_a_ratio_of_none_leaves_out_the_columns_with_amr(typed, tmp_path):
    status, out, err = typed(f"--end-to-end --method naive --seeds 1 --amr-ratio none --out {tmp_path}/plain --json")
    assert status == 0, err
    assert [(row["method"], row["amr"], row["tests"]) for row in json.loads(out)] == [("naive", None, None)]
    assert [each.name for each in (tmp_path / "plain" / "runs").iterdir()] == ["naive_plain_seed0"]


def test_one_encoder_makes_its_unimodal_row_and_says_why(trained, tmp_path):
    settings = {**SMALL, "encoder": SMALL["encoder"][:1], "epochs": 1, "device": "cpu", "out": str(tmp_path / "one")}
    table = make_table_end_to_end(TrainConfig(**settings), 1)
    assert [(row["method"], row["modalities"]) for row in table.rows] == [("unimodal", ["audio"])]
    assert table.notes[0].startswith("AMR and fusion need two modalities, got audio")
    with pytest.raises(ValueError, match="--amr-ratio must be left out for one modality"):
        make_table_end_to_end(TrainConfig(**settings, objective="joint", amr_ratio="1:1"), 1)


DATASET = "--dataset must be used with --end-to-end, got synthetic. Add --end-to-end, or leave it out."
REFUSED = {
    **{
        f"--end-to-end --{name} {value}": f"--{name} must be left out with --end-to-end, got {value}. Leave it out"
        for name, value in (
            *(("cache", "small"), ("folds", 5), ("modalities", "audio"), ("adapter", "mlp"), ("adapter-dim", 8)),
            *(("group-size", 2), ("normalize", "none"), ("condition", "audio"), ("attribution-baseline", "mean")),
        )
    },
    "--dataset synthetic": DATASET,
    "--encoder audio=timm:resnet18": "--encoder must be used with --end-to-end, got audio=timm:resnet18. Add --end",
    "--flip": "--flip must be used with --end-to-end, got True. Add --end-to-end, or leave it out.",
    "--workers 0": "--workers must be used with --end-to-end, got 0. Add --end-to-end",
    "--end-to-end --manifest x.csv": "amr table --end-to-end must have one of --dataset and --manifest, got --dataset",
    "--end-to-end --method naiv": "Did you mean naive?",
    "--method naive,nave": "Did you mean naive?",
    "--end-to-end --seeds 0": "--seeds must be 1 or more, got 0. Pass --seeds 5.",
    "--end-to-end --amr-ratio 1:1:1": "--amr-ratio must have one part for each of audio, video, got '1:1:1'",
    "--end-to-end --amr-ratio none --amr-weight 2": "--amr-weight must be used with --amr-ratio, got 2.0 without it",
    "--end-to-end --amr-level clip --attribution permutation": "--amr-level must be batch for permutation",
    "--end-to-end --optimizer adamax": "--optimizer must be one of sgd, adam, adamw, got 'adamax'",
}


@pytest.mark.parametrize("line", REFUSED)
def test_options_of_the_other_kind_of_table_are_refused(typed, tmp_path, line):
    status, out, err = typed(f"{line} --out {tmp_path}/wrong")
    assert (status, out) == (2, "")
    assert REFUSED[line] in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "wrong").exists()


def test_a_table_of_heads_takes_a_subset_of_methods_too(small_cache, typed, tmp_path):
    line = f"--cache {small_cache} --method naive,ume --seeds 2 --epochs 1 --device cpu --out {tmp_path}/heads --json"
    status, out, err = typed(line)
    assert status == 0, err
    assert [(row["method"], row["amr"] is None) for row in json.loads(out)] == [("naive", False), ("ume", True)]
    config = FitConfig(cache=str(small_cache), adapter="linear", epochs=1, device="cpu", out=str(tmp_path / "same"))
    assert [*make_table(config, 2, names=("naive", "ume")).rows] == json.loads(out)


def test_latex_has_no_letter_that_means_something_else():
    text = latex(["method", "share a_b&c"], [["50% {x} \\\\", "0.5 ± 0.1"], ["#1 $ ~ ^", "p < .001"]])
    assert text.splitlines() == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"method & share a\_b\&c \\",
        r"\midrule",
        r"50\% \{x\} \textbackslash{}\textbackslash{} & 0.5 $\pm$ 0.1 \\",
        r"\#1 \$ \textasciitilde{} \textasciicircum{} & p $<$ .001 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


@pytest.mark.parametrize(
    ("options", "metrics"),
    [
        ({"label": "tags", "label_separator": ";"}, {"map": "mAP", "accuracy": "exact match"}),
        ({"label": "score", "task": "regression"}, {"mae": "MAE", "pearson": "Pearson"}),
    ],
    ids=["labels", "numbers"],
)
def test_other_tasks_have_their_own_measures_and_no_methods_of_classes(tasks_home, tmp_path, options, metrics):
    config = FitConfig(
        cache=str(tasks_home / "caches" / "x.h5"),
        epochs=2,
        adapter="linear",
        device="cpu",
        out=str(tmp_path / "table"),
        **options,
    )
    table = make_table(config, 2)
    assert {row["method"] for row in table.rows} == {
        n for n in TABLE_1 if not methods[n].unfit(methods[n].Options(), tasks[table.task])
    }
    assert "ogm is left out: its formula needs a softmax over classes" in table.notes
    assert table.metrics == metrics
    assert table.stacked()[0] == ["method", "AMR", *metrics.values(), "audio/video", "p"]
    results = pd.read_csv(table.folder / "results.csv")
    of_naive = results[(results["method"] == "naive") & (results["part"] == "test") & (results["amr_ratio"] == "none")]
    (row,) = (row for row in table.rows if row["method"] == "naive")
    for name in metrics:
        assert row["plain"][name]["mean"] == pytest.approx(of_naive[name].mean())
