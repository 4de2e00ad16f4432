"""The list of runs and sweeps, on folders with the files that a fit writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from amr.common.files import write_json
from amr.common.workspace import find_run
from amr.fusion.config import FitConfig
from amr.fusion.runs.record import RunRecord
from amr.fusion.sweep.listing import Entry, _sorted, descends, list_runs


def make_run(folder: Path, accuracy: float | None = None, **settings) -> Path:
    """A run; without an accuracy, one that is not finished."""
    folder.mkdir(parents=True)
    texts = {"encoder": "logmel", "weights_sha256": "", "fingerprint": ""}
    infos = {m: {"modality": m, "embed_dim": 2, "preprocessing": {}} | texts for m in ("audio", "video")}
    RunRecord(FitConfig(**settings), ("a", "b"), infos, "/caches/small.h5").save(folder)
    if accuracy is not None:
        share = {"audio": 0.6, "video": 0.4}
        measures = {"accuracy": accuracy, "share": share, "perceptual": {"audio": accuracy, "video": None}}
        measures |= {"share_regularized": share, "num_clips": 8}
        write_json(folder / "metrics.json", {"val": measures | {"accuracy": 1 - accuracy}, "test": measures})
    return folder


@pytest.fixture
def runs(workspace) -> Path:
    """A fit, a sweep of three runs of which one is missing, a fit below another folder, and three broken folders."""
    folder = workspace / "runs"
    make_run(folder / "even", 0.7, amr_ratio="1:1", seed=3)
    make_run(folder / "papers" / "first", 0.9, method="ogm-ge", amr_ratio="audio=2:video=2", lr=0.5)
    make_run(folder / "ratios" / "runs" / "plain", 0.8, lr=0.01)
    write_json(folder / "ratios" / "sweep.json", {})
    make_run(folder / "ratios" / "runs" / "skewed", 0.6, amr_ratio="3:1")
    make_run(folder / "ratios" / "runs" / "stopped")
    make_run(folder / "stopped" / ".unfinished")
    make_run(folder / "damaged", 0.5)
    (folder / "damaged" / "metrics.json").write_text("{")
    make_run(folder / "other")
    (folder / "other" / "config.json").write_text('{"config": {}, "classes": [], "modalities": {}}')
    return folder


def names(**request) -> list[str]:
    return [entry.run for entry in list_runs(**request)]


def test_fits_sweeps_and_their_runs_are_listed_with_their_state(runs):
    found = {entry.run: (entry.kind, entry.state) for entry in list_runs()}
    assert found == {
        "damaged": ("fit", "damaged"),
        "even": ("fit", "finished"),
        "other": ("fit", "damaged"),
        "papers/first": ("fit", "finished"),
        "ratios": ("sweep", "unfinished"),
        "ratios/runs/plain": ("member", "finished"),
        "ratios/runs/skewed": ("member", "finished"),
        "ratios/runs/stopped": ("member", "unfinished"),
        "stopped": ("fit", "unfinished"),
    }
    notes = {entry.run: entry.note for entry in list_runs() if entry.note}
    assert notes["ratios"] == "2 of 3 runs"
    assert notes["damaged"] == "metrics.json cannot be read"
    assert notes["other"] == "config.json cannot be read"


def test_folders_of_other_programs_are_not_listed(workspace):
    folder = workspace / "runs"
    for name in ("bert", "empty"):
        (folder / name).mkdir(parents=True)
    write_json(folder / "bert" / "config.json", {"architectures": ["BertModel"], "hidden_size": 8})
    make_run(folder / "bert" / "probe", 0.5)
    write_json(folder / "empty" / "config.json", {})
    assert names() == ["bert/probe"]


@pytest.fixture
def trainings(workspace) -> Path:
    """A joint training and a unimodal one, one of before there were runs, one that is not finished, and a sweep."""
    folder, table = workspace / "encoders", workspace / "runs" / "table"
    make_run(table / "runs" / "naive_seed0", 0.8)
    write_json(table / "sweep.json", {"end_to_end": True})
    for name in ("even", "alone", "old"):
        make_training(folder / name)
    make_training(table / "trainings" / "naive_seed0")
    make_training(folder / "stopped", finished=False)
    make_training(table / "trainings" / "naive_seed1", finished=False)
    make_run(folder / "even" / "run", 0.7, amr_ratio="1:1")
    for m in ("audio", "video"):
        make_run(folder / "alone" / m / "run", 0.6, method="unimodal")
        write_json(folder / "alone" / m / "encoder.json", {})
    return workspace


def make_training(folder: Path, *, finished: bool = True) -> None:
    folder.mkdir(parents=True)
    write_json(folder / "config.json", {"config": {"objective": "joint"}, "classes": ["a"], "clips_sha256": "0"})
    if finished:
        write_json(folder / "metrics.json", {})


def test_trainings_of_encoders_are_listed_by_names_that_other_commands_take(trainings):
    entries = list_runs()
    assert [(entry.run, entry.kind, entry.state, entry.note) for entry in entries] == [
        ("table", "sweep", "unfinished", "1 of 2 runs"),
        ("table/runs/naive_seed0", "member", "finished", ""),
        ("table/trainings/naive_seed1", "member", "unfinished", ""),
        ("alone", "training", "finished", "audio, video"),
        ("alone/audio", "member", "finished", ""),
        ("alone/video", "member", "finished", ""),
        ("even", "training", "finished", ""),
        ("old", "training", "finished", "no run"),
        ("stopped", "training", "unfinished", ""),
    ]
    found = {entry.run: entry for entry in entries}
    assert (found["even"].settings["amr_ratio"], found["even"].test["accuracy"]) == ("1:1", 0.7)
    runs = {"alone/audio": "alone/audio/run", "even": "even/run", "alone": "alone"}
    assert {name: find_run(name) for name in runs} == {n: trainings / "encoders" / run for n, run in runs.items()}
    assert names(folder="even") == ["even"]
    assert names(folder="table") == [entry.run for entry in entries[:3]]
    assert names(folder=trainings / "encoders") == [entry.run for entry in entries[3:]]


@pytest.mark.parametrize("text", ["", "{", "{}"])
def test_a_run_whose_config_is_lost_stays_listed(workspace, text):
    (make_run(workspace / "runs" / "mine", 0.5) / "config.json").write_text(text)
    assert [(entry.state, entry.note) for entry in list_runs()] == [("damaged", "config.json cannot be read")]


def test_a_member_without_a_config_is_damaged(runs):
    (runs / "ratios" / "runs" / "plain" / "config.json").unlink()
    (entry,) = list_runs(where=["state=damaged", "kind=member"])
    assert entry.note == "config.json is missing"


@pytest.mark.parametrize("method", ["is_file", "iterdir", "is_dir"])
def test_an_unreadable_folder_is_listed_as_damaged_among_the_others(runs, monkeypatch, method):
    closed = runs / "papers"
    original = getattr(Path, method)

    def refusing(path):
        if path == closed or closed in path.parents:
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(Path, method, refusing)
    found = {entry.run: entry for entry in list_runs()}
    assert (found["papers"].kind, found["papers"].state) == ("unknown", "damaged")
    assert found["papers"].note == "the folder cannot be read (Permission denied)"
    assert found.keys() >= {"even", "ratios", "ratios/runs/plain", "stopped"}


def test_an_unreadable_member_is_damaged(runs, monkeypatch):
    original = Path.is_file

    def refusing(path):
        if path.parent == runs / "ratios" / "runs" / "plain":
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(Path, "is_file", refusing)
    found = {entry.run: entry.note for entry in list_runs("ratios")}
    assert found["ratios/runs/plain"] == "config.json cannot be read (Permission denied)"
    assert found["ratios"] == "1 of 3 runs"


def test_links_to_a_folder_above_are_not_followed(runs, tmp_path_factory):
    before = names()
    (runs / "papers" / "up").symlink_to("..")
    (runs / "papers" / "self").symlink_to(".")
    (runs / "papers" / "top").symlink_to(runs.parent)
    (runs / "ratios" / "runs" / "up").symlink_to("..")
    assert names() == before
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    make_run(elsewhere / "far", 0.5)
    (elsewhere / "back").symlink_to(elsewhere)
    (runs / "linked").symlink_to(elsewhere)
    assert [name for name in names() if name not in before] == ["linked/far"]


def test_a_sweep_of_one_run_says_run(workspace):
    make_run(workspace / "runs" / "one" / "runs" / "only", 0.5)
    write_json(workspace / "runs" / "one" / "sweep.json", {})
    assert list_runs()[0].note == "1 run"


def test_counts_are_whole_numbers(workspace):
    folder = make_run(workspace / "runs" / "mine", 0.5)
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["test"] |= {"accuracy": 1.0, "num_clips": 74}
    write_json(folder / "metrics.json", metrics)
    row = list_runs()[0].row()
    assert (str(row["test.num_clips"]), str(row["test.accuracy"])) == ("74", "1.0")


def test_a_row_holds_settings_and_measures(runs):
    (entry,) = list_runs("even")
    config = json.loads((runs / "even" / "config.json").read_text())["config"]
    listed = {"modalities": ["audio", "video"], "cache": "/caches/small.h5", "head_option": [], "method_option": []}
    del config["out"]
    assert entry.settings == config | listed
    assert entry.row()["test.share.audio"] == 0.6
    assert entry.row()["val.accuracy"] == pytest.approx(0.3)
    document = json.loads(json.dumps(entry.to_json()))
    assert (document["run"], document["folder"]) == ("even", str(runs / "even"))
    assert document["test"]["share"] == {"audio": 0.6, "video": 0.4}
    (plain,) = list_runs(runs / "ratios" / "runs" / "plain")
    assert (plain.settings["amr_ratio"], plain.settings["amr_weight"]) == (None, None)


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (["method=ogm-ge"], ["papers/first"]),
        (["amr_ratio=2:2"], ["even", "papers/first"]),
        (["amr-ratio=none", "state=finished"], ["ratios/runs/plain"]),
        (["lr=5e-1"], ["papers/first"]),
        (["seed=3"], ["even"]),
        (["cache=small", "accuracy=0.7"], ["even"]),
        (["modalities=audio,video", "kind=fit", "state=unfinished"], ["stopped"]),
        (["kind=sweep"], ["ratios"]),
        (["keep_flagged=true"], []),
    ],
)
def test_conditions_are_compared_by_value(runs, where, found):
    assert names(where=where) == found


@pytest.mark.parametrize("column", ["test.accuracy", "test", "accuracy", "share.audio", "use.audio", "test.use.audio"])
def test_measures_are_sorted_from_high_to_low(runs, column):
    found = names(sort=column)
    if column != "share.audio":
        assert found[:4] == ["papers/first", "ratios/runs/plain", "even", "ratios/runs/skewed"]
        assert names(sort=column, reverse=True)[:2] == ["ratios/runs/skewed", "even"]
    assert set(found[4:]) == {"damaged", "other", "ratios", "ratios/runs/stopped", "stopped"}


def test_settings_are_sorted_from_low_to_high_and_rows_without_a_value_are_last(runs):
    assert names(sort="lr", where=["state=finished"])[:2] == ["ratios/runs/plain", "papers/first"]
    assert names(sort="lr", reverse=True)[:2] == ["papers/first", "ratios/runs/plain"]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"sort": "test.acuracy"}, "--sort must name a setting or a measure, .* Did you mean test.accuracy"),
        ({"where": ["metod=x"]}, "Did you mean method"),
        ({"where": ["method"]}, "--where must be COLUMN=VALUE"),
        ({"sort": "zzz"}, "amr runs --format csv"),
    ],
)
def test_unknown_columns_are_refused(runs, request_, message):
    with pytest.raises(ValueError, match=message):
        list_runs(**request_)


@pytest.mark.parametrize("column", ["test", "val.accuracy", "ratio"])
def test_runs_without_results_are_sorted_too(workspace, column):
    make_run(workspace / "runs" / "stopped" / ".unfinished")
    assert names(sort=column) == ["stopped"]


def test_an_empty_workspace_has_no_runs(workspace):
    assert list_runs(sort="test.accuracy") == []
    with pytest.raises(FileNotFoundError, match="DIR must be"):
        list_runs("nowhere")


def test_nothing_imports_torch(runs):
    code = "import sys; from amr.cli import run; run(['runs']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_errors_are_sorted_from_low_to_high(tmp_path):
    measured = [
        Entry(tmp_path, name, "fit", "finished", test={"mae": mae, "pearson": -mae, "acc2": -mae})
        for name, mae in (("bad", 2.0), ("good", 1.0))
    ]
    for column in ("test.mae", "test.pearson", "test.acc2"):
        assert [entry.run for entry in _sorted(measured, column, descending=descends(column))] == ["good", "bad"]
    assert not descends("lr")
