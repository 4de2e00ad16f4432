"""The commands about fitted runs, as typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from amr.cli import run
from amr.fusion.runs.read import best_run

NUM_CLIPS = 60


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A workspace with a cache with votes, a run `plain` and a sweep `ratios`."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMR_HOME", str(folder))
        patch.chdir(folder)
        rng = np.random.default_rng(0)
        target = np.arange(NUM_CLIPS) % 2
        for name in ("audio", "video"):
            np.save(f"{name}.npy", (target[:, None] + rng.normal(size=(NUM_CLIPS, 4))).astype(np.float32))
        ids = [f"{i:03d}" for i in range(NUM_CLIPS)]
        votes = {
            f"votes_{channel}_{c}": rng.integers(0, 9, NUM_CLIPS) for channel in ("voice", "face", "both") for c in "01"
        }
        pd.DataFrame({"id": ids} | votes).to_csv("votes.csv", index=False)
        Path("ids.txt").write_text("\n".join(ids) + "\n")
        np.savetxt("labels.txt", target, fmt="%d")
        given = "--embeddings audio=audio.npy --embeddings video=video.npy --labels labels.txt --ids ids.txt"
        made = f"import {given} --columns votes.csv --splits train=30,val=10,test=20 --out caches/small.h5"
        sweep = "sweep --out ratios --epochs 2 --amr-ratio none,1:3 --seeds 2"
        for line in (made, "fit --out plain --epochs 2", sweep):
            assert run(line.split()) == 0
    return folder


@pytest.fixture
def amr(capfd, home, monkeypatch):
    """Run a command line in the workspace, and return its status, stdout and stderr."""
    monkeypatch.setenv("AMR_HOME", str(home))
    monkeypatch.chdir(home)

    def call(line: str) -> tuple[int, str, str]:
        capfd.readouterr()
        return run(line.split()), *capfd.readouterr()

    return call


def test_predict_writes_a_csv_goes_on_past_unknown_clips_and_names_them(amr):
    status, out, err = amr("predict plain 001 nobody votes.csv --out made/p.csv")
    assert (status, out) == (0, "")
    assert err.splitlines()[0] == f"{NUM_CLIPS + 2} clips written to made/p.csv"
    assert err.splitlines()[1].startswith(f"no prediction for 1 of {NUM_CLIPS + 2} clips: nobody (no such file; no ")
    table = pd.read_csv("made/p.csv", dtype=str, keep_default_na=False)
    assert list(table) == ["clip", "pred", "probability", "share_audio", "share_video", "note"]
    assert list(table["clip"][:3]) == ["001", "nobody", "000"]
    assert (table["pred"] == "").sum() == 1


def test_predict_prints_every_clip_and_json_is_whole(amr):
    status, out, err = amr("predict plain nobody 001 --json")
    unknown, known = json.loads(out)
    assert status == 0
    assert unknown["pred"] is None
    assert known["pred"] in ("0", "1")
    assert "nobody" in err
    assert set(known) == {"clip", "pred", "probability", "probabilities", "share", "note"}


def test_predict_without_any_prediction_is_exit_1(amr):
    status, out, err = amr("predict plain a b c d e")
    assert status == 1
    assert "got none: a (no such file; no such id in " in err
    assert "), b, c and 2 more. Name other clips." in err
    assert len(out.splitlines()) >= 6


def test_predict_and_explain_take_the_best_run_of_a_sweep_and_say_so(amr, home):
    best = best_run(home / "runs/ratios")
    said = f"using {best.folder}, the best run by val"
    status, out, err = amr("predict ratios 001 --json")
    assert status == 0
    assert said in err
    assert out == amr(f"predict {best.folder} 001 --json")[1]
    status, out, err = amr("explain ratios 001 --json")
    assert status == 0
    assert err.count(said) == 1
    document = json.loads(out)
    assert document["run"] == str(best.folder)
    assert Path(document["picture"]) == best.folder / "explain_001.png"
    assert "share" in document
    assert "shares" not in document


def test_explain_shows_baselines_that_agree_once(amr):
    out = amr("explain plain 001 --out e.png")[1]
    assert "probability if replaced by zero or mean" in out
    assert out.startswith("class ")


def test_evaluate_prints_a_table_of_people(amr):
    status, out, err = amr("evaluate plain --against people --bootstrap 0 --out people --device cpu")
    assert status == 0
    assert "test clips on which voice and face differ for people" in " ".join(out.split())
    assert "chooses as most people did" in out
    assert "fractions of 1, on the test clips; robust is a ratio" in err.splitlines()
    assert "/people" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("evaluate plain --out /proc/self/made", "--out must be a place that can be written to"),
        ("explain plain 001 --out /proc/self/made/e.png", "--out must be a place that can be written to"),
        ("predict plain 001 --out /proc/self/made/p.csv", "--out must be a place that can be written to"),
        ("predict plain 001 --out votes.csv", "--out must be new or a table of amr predict"),
        ("evaluate sealed", "RUN must not hold an evaluation.json of another program"),
        ("predict plian 001", "Did you mean plain?"),
    ],
)
def test_results_that_cannot_be_written_are_refused_before_torch_is_imported(home, line, message):
    sealed = home / "runs/sealed"
    if not sealed.exists():
        sealed.mkdir()
        for name in ("config.json", "metrics.json"):
            (sealed / name).write_bytes((home / "runs/plain" / name).read_bytes())
        (sealed / "evaluation.json").write_text("{}")
    program = f"import sys; from amr.cli import run; print(run({line.split()!r}), 'torch' in sys.modules)"
    environment = os.environ | {"AMR_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=home, env=environment, check=True
    )
    assert done.stdout == "2 False\n", done.stderr
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_read_only_run_is_refused_with_what_to_type(amr, home, monkeypatch):
    def refuse(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    for line, out in (("evaluate plain", "a folder elsewhere|another folder"), ("explain plain 001", "a picture")):
        status, _, err = amr(line)
        assert status == 2
        assert err.startswith("amr: RUN must be a place that can be written to, got ")
        assert "(Read-only file system). Pass --out with " in err
        assert any(text in err for text in out.split("|"))


def test_report_finds_a_run_by_name(amr, home):
    status, out, err = amr("report plain --out page.html --clips 0")
    assert (status, out.strip()) == (0, "page.html"), err
    assert (home / "page.html").is_file()
