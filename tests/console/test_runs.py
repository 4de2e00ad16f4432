from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from amr.cli import run
from amr.common.files import write_json
from amr.fusion.config import FitConfig
from amr.fusion.runs.record import RunRecord

TEXTS = {"encoder": "logmel", "weights_sha256": "", "fingerprint": ""}
INFOS = {m: {"modality": m, "embed_dim": 2, "preprocessing": {}} | TEXTS for m in ("audio", "video")}


@pytest.fixture
def amr(capfd, workspace, monkeypatch):
    """Run a command in a workspace with two runs and an unfinished one."""
    monkeypatch.chdir(workspace)
    for name, ratio, accuracy in (("even", "1:1", 0.7), ("plain", None, 0.8), ("stopped", None, None)):
        folder = Path("runs") / name
        folder.mkdir(parents=True)
        RunRecord(FitConfig(amr_ratio=ratio), ("a", "b"), INFOS, "small.h5").save(folder)
        if accuracy is not None:
            share = {"audio": 0.6, "video": 0.4}
            measures = {"accuracy": accuracy, "map": 0.5, "num_clips": 74, "share": share, "share_regularized": share}
            write_json(folder / "metrics.json", {"val": measures, "test": measures})

    def call(line: str) -> tuple[int, str, str]:
        return run(line.split()), *capfd.readouterr()

    return call


def test_the_table_has_results_then_settings_that_differ_then_the_rest(amr):
    status, out, _ = amr("runs --sort test")
    heading, *rows = [line.split() for line in out.splitlines()]
    assert status == 0
    assert heading[:4] == ["run", "val", "test", "amr_ratio"]
    assert "method" not in heading  # all have the same
    assert [row[0] for row in rows] == ["plain", "even", "stopped"]
    assert rows[2][1] == "(unfinished)"
    assert [row[3] for row in rows[:2]] == ["none", "audio=1:video=1"]


def test_errors_have_a_column_where_a_run_predicts_numbers(amr):
    assert "MAE" not in amr("runs")[1]
    folder = Path("runs") / "number"
    folder.mkdir()
    share = {"audio": 0.6, "video": 0.4}
    measures = {"mae": 0.25, "pearson": None, "num_clips": 74, "share": share, "share_regularized": share}
    RunRecord(FitConfig(task="regression"), ("label",), INFOS, "", model="mine").save(folder)
    write_json(folder / "metrics.json", {"val": None, "test": measures})
    heading, row = (line.split() for line in amr("runs --where task=regression")[1].splitlines())
    assert dict(zip(heading, row, strict=True))["MAE"] == "0.250"
    assert row[0] == "number"


def test_the_table_says_why_a_run_is_damaged(amr):
    Path("runs/even/metrics.json").write_text("{")
    status, out, _ = amr("runs")
    assert status == 0
    assert "even (damaged: metrics.json cannot be read)" in out


def test_columns_that_do_not_fit_are_left_out_but_not_those_asked_for(amr, monkeypatch):
    monkeypatch.setattr("amr.console.runs.PIPE_WIDTH", 40)
    heading = amr("runs --where seed=0 --sort lr")[1].splitlines()[0].split()
    assert heading == ["run", "val", "test", "seed", "lr"]


def test_csv_and_json_hold_every_setting_and_result(amr):
    rows = {row["run"]: row for row in csv.DictReader(io.StringIO(amr("runs --format csv")[1]))}
    assert rows["even"]["test.share.audio"] == "0.6"
    assert rows["even"]["test.num_clips"] == "74"
    assert rows["even"]["modalities"] == "audio,video"
    assert rows["plain"]["amr_ratio"] == rows["stopped"]["test.accuracy"] == ""
    document = json.loads(amr("runs --json --where amr_ratio=none --sort accuracy")[1])
    assert [row["run"] for row in document] == ["plain", "stopped"]
    assert document[0]["settings"]["amr_ratio"] is None


@pytest.mark.parametrize(
    ("line", "hint"),
    [("--format cvs", "Did you mean csv?"), ("--json --format csv", "without"), ("--sort tset", "Did you mean test?")],
)
def test_wrong_requests(amr, line, hint):
    status, out, err = amr(f"runs {line}")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert hint in err or "--format must be left out with --json" in err


def test_an_empty_list_says_so_on_stderr(amr):
    assert amr("runs --where seed=9")[1:] == ("", "no runs here\n")
