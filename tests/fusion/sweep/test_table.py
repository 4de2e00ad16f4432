from dataclasses import replace

import pandas as pd
import pytest
from scipy import stats

from amr.fusion.config import FitConfig
from amr.fusion.methods import methods
from amr.fusion.sweep.sweep import SweepResult
from amr.fusion.sweep.table import make_table


@pytest.fixture
def few_methods(monkeypatch):
    """The three kinds of row: with a ratio, without one, and one per modality."""
    monkeypatch.setattr(
        "amr.fusion.sweep.table.methods", {name: methods[name] for name in ("unimodal", "naive", "ume")}
    )


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
