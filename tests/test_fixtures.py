"""What version 0.1.0 made must work with every later version; tests/fixtures/v0_1_0/README.md says what there is."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from amr.cli import run

FIXTURES = Path(__file__).resolve().parent / "fixtures" / "v0_1_0"
PLACEHOLDER = "WORKSPACE"
CACHES = ("clips", "imported", "trained")
RUNS = ("attention", "folds")
SAID_OF_A_CLIP = ("clip", "pred", "probability", "probabilities", "share")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A copy of the workspace, as if it had been made there."""
    folder = tmp_path / "home"
    shutil.copytree(FIXTURES / "workspace", folder)
    for path in folder.rglob("*.json"):
        path.write_text(path.read_text(encoding="utf-8").replace(PLACEHOLDER, str(folder)), encoding="utf-8")
    for path in folder.rglob("*.h5"):
        with h5py.File(path, "r+") as cache:
            cache.attrs["root"] = str(cache.attrs["root"]).replace(PLACEHOLDER, str(folder))
    monkeypatch.setenv("AMR_HOME", ".")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def expected(home):
    """What 0.1.0 was asked and said."""
    return json.loads((FIXTURES / "expected.json").read_text(encoding="utf-8").replace(PLACEHOLDER, str(home)))


@pytest.fixture
def amr(home, capsys):
    """Run a command line in the workspace; the document that it prints."""

    def call(line):
        capsys.readouterr()
        status = run([*(line.split() if isinstance(line, str) else line), "--json"])
        printed = capsys.readouterr()
        assert status == 0, printed.err
        return json.loads(printed.out)

    return call


def listed(names):
    return names.split(",") if isinstance(names, str) else names


# JSON values that have another form since 0.1; CHANGELOG.md has the table
RENAMED = {
    "modalities": listed,
    "amr_ratio": lambda ratio: None if ratio == "none" else ratio,
    "against": lambda ratio: None if ratio == "none" else ratio,
}


WORDS = ("notes",)  # sentences for readers may change


def assert_close(found, expected, tolerance, where="document"):
    """The same numbers, texts and names; found may say more than was expected."""
    if isinstance(expected, dict):
        assert set(expected) <= set(found), where
        expected = {name: value for name, value in expected.items() if name not in WORDS}
        expected |= {name: renamed(expected[name]) for name, renamed in RENAMED.items() if name in expected}
        for name, value in expected.items():
            assert_close(found[name], value, tolerance, f"{where}.{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for i, value in enumerate(expected):
            assert_close(found[i], value, tolerance, f"{where}[{i}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=tolerance), where
    else:
        assert found == expected, where


def assert_same_predictions(found, expected, tolerance):
    assert len(found) == len(expected)
    for clip, stored in zip(found, expected, strict=True):
        assert_close(clip, {name: stored[name] for name in SAID_OF_A_CLIP}, tolerance, stored["clip"])


def checksums(cache):
    """sha256 of each embedding's rows, by their bytes."""
    with h5py.File(cache) as opened:
        return {name: hashlib.sha256(rows[:].tobytes()).hexdigest() for name, rows in opened["embeddings"].items()}


def contents(folder):
    """Every file with its bytes; pictures are drawn anew each time."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".png"}


def test_no_path_of_the_machine_is_in_the_files():
    for path in FIXTURES.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not [start for start in (b"/tmp/", b"/home/", b"/root/", b"/Users/") if start in content], path


@pytest.mark.parametrize("cache", CACHES)
def test_a_cache_is_whole_and_says_what_it_said(amr, expected, cache):
    assert_close(amr(f"inspect {cache}"), expected["inspect"][cache], 0)
    assert_close(amr(f"verify {cache}"), expected["verify"][cache], 0)
    assert checksums(f"caches/{cache}.h5") == expected["checksums"][cache]


@pytest.mark.parametrize("name", RUNS)
def test_cached_clips_are_predicted_as_before(amr, expected, name):
    stored = expected["predict_ids"][name]
    found = amr(["predict", f"runs/{name}", *(clip["clip"] for clip in stored), "--device", "cpu"])
    assert_same_predictions(found, stored, 1e-5)


@pytest.mark.parametrize("name", RUNS)
def test_media_are_predicted_as_before(amr, expected, name):
    stored = expected["predict_media"][name]
    found = amr(["predict", f"runs/{name}", *(clip["clip"] for clip in stored), "--device", "cpu"])
    assert_same_predictions(found, stored, 1e-3)


@pytest.mark.parametrize("name", ["fit", "folds"])
def test_the_same_fit_gives_the_same_metrics(amr, expected, name):
    found = amr(f"{expected['commands'][name]} --out runs/again")
    assert_close(found, expected[name], 1e-3)


@pytest.mark.parametrize("name", ["sweep", "table"])
def test_a_finished_sweep_has_nothing_to_do(amr, expected, home, name):
    runs = home / "runs" / name / "runs"
    before = contents(runs)
    assert_close(amr(expected["commands"][name]), expected[name], 1e-6)
    assert contents(runs) == before


def test_a_sweep_is_evaluated_as_before(amr, expected, home):
    os.rename("runs/sweep", "runs/moved")
    found = amr(expected["commands"]["evaluate"].replace("runs/sweep", "runs/moved"))
    assert_close(found["groups"], expected["evaluate"], 1e-5)


def test_a_report_shows_runs_sweep_and_table(amr, home):
    folders = [f"runs/{name}" for name in (*RUNS, "sweep", "table")]
    amr(["report", *folders, "--out", "report.html"])
    page = (home / "report.html").read_text(encoding="utf-8")
    for name in (*RUNS, "sweep", "table"):
        assert name in page


def test_a_finished_extraction_has_nothing_to_do(amr, expected):
    found = amr(expected["commands"]["extract"])
    assert (found["extracted"], found["clips"]) == (0, expected["inspect"]["clips"]["clips"])
    assert found["failures"] == expected["inspect"]["clips"]["failures"]
    assert_close(amr("inspect clips"), expected["inspect"]["clips"], 0)
    assert amr("verify clips")["ok"] is True
    assert checksums("caches/clips.h5") == expected["checksums"]["clips"]


def test_a_trained_encoder_gives_its_embeddings(amr, expected):
    line = expected["commands"]["trained"].replace("caches/trained.h5", "caches/again.h5")
    amr(line)
    with h5py.File("caches/trained.h5") as before, h5py.File("caches/again.h5") as after:
        np.testing.assert_allclose(after["embeddings/video"][:], before["embeddings/video"][:], rtol=0, atol=1e-4)
    of_cache = expected["inspect"]["trained"]["embeddings"]["video"]
    del of_cache["code_version"]  # of the version that embeds
    assert_close(amr("inspect again")["embeddings"]["video"], of_cache, 0)


def test_a_finished_training_of_encoders_has_nothing_to_do(amr, expected, home):
    before = contents(home / "encoders")
    assert_close(amr(expected["commands"]["train"]), expected["train"], 1e-6)
    assert contents(home / "encoders") == before
