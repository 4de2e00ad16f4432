"""Sweeps of trainings: their members are single trainings, uni-modal models are shared, work is shared and resumed."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from amr.cli import run as amr
from amr.common.files.lock import Locked, lock
from amr.common.progress import Progress
from amr.common.workspace import JOINT_RUN
from amr.fusion.end_to_end import train as train_module
from amr.fusion.end_to_end.config import TrainConfig, TrainSweepConfig
from amr.fusion.end_to_end.train import train_encoders
from amr.fusion.frontier.config import FrontierConfig
from amr.fusion.frontier.frontier import frontier
from amr.fusion.sweep import trainings as sweep_module
from amr.fusion.sweep.sweep import SweepResult
from amr.fusion.sweep.trainings import sweep_trainings

from ...torture.kills.commands import SECONDS, start
from ..trainings import ENCODERS, SMALL, render_clips

METHODS = ("unimodal", "naive", "umt", "gge", "ume")
MODALITIES = ("audio", "video")


class Killed(Exception):
    """Raised in the middle of a sweep."""


class Notes(Progress):
    """Keep the notes, and raise at the one that holds a text."""

    def __init__(self, fatal: str | None = None) -> None:
        self.texts: list[str] = []
        self._fatal = fatal

    def note(self, text: str) -> None:
        self.texts.append(text)
        if self._fatal is not None and self._fatal in text:
            raise Killed


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with 36 clips."""
    home = tmp_path_factory.mktemp("clips")
    render_clips(home)
    return home


@pytest.fixture
def home(media: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workspace, as that of the test."""
    monkeypatch.setenv("AMR_HOME", str(media))
    monkeypatch.chdir(media)
    return media


def base(out: Path, **settings: Any) -> TrainConfig:
    joint = {"device": "cpu", "objective": "joint", "epochs": 1}
    return TrainConfig(**{**SMALL, **joint, "out": str(out), **settings})


@pytest.fixture(scope="module")
def swept(media: Path) -> tuple[SweepResult, Counter[tuple[str, int]]]:
    """A sweep of methods with AMR and two seeds, and how often each uni-modal model was trained. Do not change it."""
    trained: Counter[tuple[str, int]] = Counter()
    original = train_module._Training.unimodal

    def counted(self: Any, modality: str, *places: Path) -> Any:
        trained[modality, self.config.seed] += 1
        return original(self, modality, *places)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMR_HOME", str(media))
        patch.setattr(train_module._Training, "unimodal", counted)
        config = TrainSweepConfig(base(media / "runs" / "swept"), method=METHODS, amr_ratio=("1:1",), seed=(0, 1))
        return sweep_trainings(config), trained


def assert_same(ours: Path, theirs: Path) -> None:
    """Compare two trainings bit for bit: weights, histories and measures; teachers are left out."""
    for pattern in ("*.safetensors", "history.csv", "metrics.json"):
        files = [[f.relative_to(folder) for f in sorted(folder.rglob(pattern))] for folder in (ours, theirs)]
        ours_only, theirs_only = ([f for f in each if f.parts[0] != "teachers"] for each in files)
        # the runs of a sweep are in runs/
        names = [f for f in ours_only if JOINT_RUN not in f.parts]
        assert names == [f for f in theirs_only if JOINT_RUN not in f.parts]
        assert names
        for name in names:
            if pattern != "*.safetensors":
                assert (ours / name).read_text() == (theirs / name).read_text(), name
                continue
            one, other = load_file(ours / name), load_file(theirs / name)
            assert one.keys() == other.keys()
            assert all(torch.equal(value, other[key]) for key, value in one.items()), name


MEMBERS = {
    "naive_amr-1-1_grad_x_input_seed1": {"method": "naive", "amr_ratio": "1:1", "seed": 1},
    "umt_amr-1-1_grad_x_input_seed0": {"method": "umt", "amr_ratio": "1:1"},
    "ume_plain_seed0": {"method": "ume"},
}


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_is_the_same_single_training(home, swept, tmp_path, name):
    folder = swept[0].folder
    single = train_encoders(base(tmp_path / "single", **MEMBERS[name])).folder
    assert_same(folder / "trainings" / name, single)
    for file in ("metrics.json", "history.csv", "predictions.csv"):
        assert (folder / "runs" / name / file).read_text() == (single / JOINT_RUN / file).read_text()


def test_a_member_is_the_single_training_with_these_teachers(home, swept, tmp_path):
    trainings = swept[0].folder / "trainings"
    settings = {**MEMBERS["umt_amr-1-1_grad_x_input_seed0"], "teachers": str(trainings / "unimodal_seed0")}
    assert_same(trainings / "umt_amr-1-1_grad_x_input_seed0", train_encoders(base(tmp_path / "s", **settings)).folder)


def test_uni_modal_models_are_trained_once_per_seed_and_shared(home, swept, tmp_path):
    result, trained = swept
    assert trained == {(m, seed): 1 for m in MODALITIES for seed in (0, 1)}
    trainings = result.folder / "trainings"
    assert not list(trainings.rglob("teachers"))
    assert_same(trainings / "unimodal_seed1", train_encoders(base(tmp_path / "s", objective="unimodal", seed=1)).folder)
    for m in MODALITIES:  # an ensemble is made of them
        ours, theirs = (
            load_file(trainings / name / m / "weights.safetensors") for name in ("ume_plain_seed0", "unimodal_seed0")
        )
        assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_each_model_is_a_row_and_a_run(swept):
    result, _ = swept
    table = result.table
    assert set(table["run"]) == {run.name for run in (result.folder / "runs").iterdir()}
    assert len(table) == 2 * 2 * 6  # splits, seeds, models
    assert set(table.query("method == 'unimodal'")["run"]) == {
        f"unimodal_{m}_seed{s}" for m in MODALITIES for s in (0, 1)
    }
    assert {row["amr_ratio"] for _, row in table.query("method == 'ume'").iterrows()} == {"none"}  # it takes no ratio
    for seed in (0, 1):
        measured = json.loads((result.folder / "trainings" / f"unimodal_seed{seed}" / "metrics.json").read_text())
        for m in MODALITIES:
            row = table.query("run == @name and split == 'test'", local_dict={"name": f"unimodal_{m}_seed{seed}"})
            assert row["accuracy"].item() == pytest.approx(measured["test"][m]["accuracy"], abs=1e-6)


def test_a_finished_sweep_is_read_from_any_folder(home, swept, monkeypatch):
    result, _ = swept
    files = {f: f.stat().st_mtime_ns for f in result.folder.rglob("*.safetensors")}
    monkeypatch.chdir(result.folder)
    config = TrainSweepConfig(
        base(Path("../swept"), device="auto", workers=1), method=METHODS, amr_ratio=("1:1",), seed=(0, 1)
    )
    for overwrite in (False, True):
        assert sweep_trainings(config, overwrite=overwrite).rows == result.rows
    assert {f: f.stat().st_mtime_ns for f in result.folder.rglob("*.safetensors")} == files


KILLED_AT = ("unimodal_seed0: video: epoch 1/3", "umt_amr-1-1_grad_x_input_seed0: umt: epoch 2/3")


def test_a_killed_sweep_continues_at_the_epoch(home, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_module, "SECONDS_BETWEEN_NOTES", 0)

    def begin(name: str, progress: Notes | None = None) -> SweepResult:
        config = base(tmp_path / name, epochs=3, embedding_noise="audio=1:video=0.5")
        return sweep_trainings(
            TrainSweepConfig(config, method=("umt",), amr_ratio=("1:1",)), progress, seconds_between=0
        )

    whole = begin("whole")
    for line in KILLED_AT:
        progress = Notes(line)
        with pytest.raises(Killed):
            begin("killed", progress)
    assert not [text for text in progress.texts if "audio: epoch" in text]  # it was finished
    assert [text for text in progress.texts if "video: continues after epoch 1/3" in text]
    progress = Notes()
    resumed = begin("killed", progress)
    texts = [text for text in progress.texts if "warning: " not in text]
    assert [text.split(",")[0].partition(": ")[2] for text in texts] == [
        "umt: continues after epoch 2/3",
        "umt: epoch 3/3",
    ]
    assert (resumed.folder / "results.csv").read_text() == (whole.folder / "results.csv").read_text()
    for training in (whole.folder / "trainings").iterdir():
        assert_same(training, resumed.folder / "trainings" / training.name)


def test_processes_share_the_work_of_one_sweep(home, tmp_path):
    line = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items() if name not in ("encoder", "epochs")]
    line += [f"--encoder={each}" for each in ENCODERS]
    line += [
        "--device=cpu",
        "--epochs=1",
        "--objective=joint",
        "--method=naive,umt",
        "--seed=0",
        f"--out={tmp_path}/shared",
    ]
    both = [start(home, ("train-encoders", *line, "--json")) for _ in range(2)]
    one, other = (each.wait(SECONDS) for each in both)
    assert [one.fault((0,)), other.fault((0,))] == ["", ""]
    documents = [json.loads(each.stdout) for each in (one, other)]
    assert documents[0] == documents[1]
    folder = tmp_path / "shared"
    assert len(documents[0]) == len(pd.read_csv(folder / "results.csv")) == 2 * 4
    curves = Counter(file.parent.parent.relative_to(folder) for file in folder.rglob("events.out.tfevents*"))
    assert set(curves.values()) == {1}  # each model was trained once
    assert len(curves) == 4
    assert not list(folder.rglob("*.lock"))
    config = TrainSweepConfig(base(folder, epochs=2), method=("naive", "umt"))
    with pytest.raises(ValueError, match=r"a sweep with --epochs 1 \(now 2\). Choose another name to keep it"):
        sweep_trainings(config)
    # --overwrite does not take it away from a process that trains in it
    (folder / "trainings" / "naive_plain_seed0.lock").touch()
    with (
        lock(folder / "trainings" / "naive_plain_seed0"),
        pytest.raises(Locked, match="shared' must be written by one"),
    ):
        sweep_trainings(config, overwrite=True)
    assert len(list(folder.rglob("events.out.tfevents*"))) == 4


def test_what_a_kill_at_the_start_leaves_does_not_block_the_folder(home, tmp_path):
    folder = tmp_path / "begun"
    folder.mkdir()
    for file in (".sweep.partial.json", "sweep.json.lock"):
        (folder / file).touch()
    config = TrainSweepConfig(base(folder, objective="unimodal", epochs=1))
    with pytest.raises(Killed):
        sweep_trainings(config, KilledAtStart())
    begun = folder / "trainings" / "unimodal_seed0"
    begun.mkdir(parents=True)
    (begun / ".config.partial.json").touch()
    assert len(sweep_trainings(config).rows) == 2 * 2


class KilledAtStart(Progress):
    """Raise before the first training."""

    def start(self, total: int, done: int, unit: str = "clips") -> None:
        if unit == "trainings":  # the clips may have been decoded by another test, or not
            raise Killed


def test_a_sweep_of_other_clips_is_replaced_with_overwrite_only(home, tmp_path):
    root = home / "data" / "synthetic"
    clips = pd.read_csv(root / "manifest.csv", dtype=str, keep_default_na=False)
    file = tmp_path / "clips.csv"
    clips.to_csv(file, index=False)
    settings = {"dataset": None, "manifest": str(file), "root": str(root), "epochs": 1, "objective": "unimodal"}
    config = TrainSweepConfig(base(tmp_path / "mine", **settings))
    first = sweep_trainings(config)
    whole = {path: path.read_bytes() for path in first.folder.rglob("*") if path.is_file()}
    for overwrite in (False, True):  # a damaged sweep.json costs no training
        (first.folder / "sweep.json").write_text("{")
        assert sweep_trainings(config, overwrite=overwrite).rows == first.rows
        assert {path: path.read_bytes() for path in first.folder.rglob("*") if path.is_file()} == whole
    (first.folder / "sweep.json").write_text("{")
    with pytest.raises(ValueError, match=r"a damaged sweep\.json\. Choose another name to keep it"):
        sweep_trainings(replace(config, base=replace(config.base, epochs=2)))
    (first.folder / "sweep.json").write_bytes(whole[first.folder / "sweep.json"])
    clips["label"] = clips["label"].to_numpy()[::-1]
    clips.to_csv(file, index=False)
    with pytest.raises(ValueError, match=r"a sweep with other clips, labels or splits. Choose another name to keep it"):
        sweep_trainings(config)
    assert sweep_trainings(config, overwrite=True).rows != first.rows


def test_settings_without_an_effect_are_refused(home, tmp_path):
    with pytest.raises(ValueError, match=r"--amr-weight must be used with --amr-ratio, got 2.0 without it"):
        TrainSweepConfig(base(tmp_path, amr_weight=2), method=("naive", "umt"))
    with pytest.raises(ValueError, match="--teachers must be used with --method umt"):
        sweep_trainings(TrainSweepConfig(base(tmp_path / "x", teachers="any"), method=("naive", "ogm-ge")))
    assert not (tmp_path / "x").exists()
    kept = sweep_module._members(TrainSweepConfig(base(tmp_path, teachers="any"), method=("naive", "umt")))
    assert [member.teachers for member in kept] == [None, "any"]


def test_weights_that_each_attribution_sets_itself_are_another_sweep_than_one_weight_for_all(tmp_path):
    lists = {"amr_ratio": ("1:1",), "attribution": ("grad_x_input", "permutation")}
    own, given = (TrainSweepConfig(base(tmp_path, amr_weight=weight), **lists) for weight in (None, 1))
    assert sweep_module._request(own)["base"]["amr_weight"] == [1, 0.3]
    assert sweep_module._request(given)["base"]["amr_weight"] == 1


LINE = "train-encoders --dataset synthetic --epochs 1 --batch-size 8 --workers 0 --device cpu --objective joint"


@pytest.fixture
def typed(home, capfd):
    """Function that runs a command line: exit status, stdout and stderr."""

    def call(line: str) -> tuple[int, str, str]:
        capfd.readouterr()
        encoders = [part for each in ENCODERS for part in ("--encoder", each)]
        status = amr([*line.split(), *encoders])
        return status, *capfd.readouterr()

    return call


def test_lists_on_the_command_line_are_a_sweep(typed, tmp_path):
    line = f"{LINE} --method naive,modality-dropout --amr-ratio none,1:1 --seeds 2 --out {tmp_path}/lists"
    status, out, err = typed(f"{line} --json")
    assert status == 0, err
    rows = json.loads(out)
    names = {
        f"{method}_{amr}_seed{seed}"
        for method in ("naive", "modality-dropout")
        for amr in ("plain", "amr-1-1_grad_x_input")
        for seed in (0, 1)
    }
    assert {row["run"] for row in rows} == names == {each.name for each in (tmp_path / "lists" / "trainings").iterdir()}
    assert len(rows) == 16
    assert {row["split"] for row in rows} == {"val", "test"}
    status, out, err = typed(line)
    assert status == 0
    assert "best by val accuracy" in out
    assert f"next: amr predict {tmp_path}/lists/runs/" in err


def test_a_list_of_attributions_has_one_training_without_a_ratio(typed, tmp_path):
    line = f"{LINE} --attribution grad_x_input,permutation --amr-ratio none,video=2:audio=1 --out {tmp_path}/by --json"
    status, out, err = typed(line)
    assert status == 0, err
    rows = {row["run"]: row for row in json.loads(out)}
    ratio = "amr-audio-1-video-2"
    assert rows.keys() == {"naive_plain_seed0", f"naive_{ratio}_grad_x_input_seed0", f"naive_{ratio}_permutation_seed0"}
    assert {name: row["amr_weight"] for name, row in rows.items() if "amr" in name} == {
        f"naive_{ratio}_grad_x_input_seed0": 1,
        f"naive_{ratio}_permutation_seed0": 0.3,
    }


def test_what_diverges_is_reported_once_trained_and_the_rest_is_kept(typed, tmp_path):
    """The learning rate breaks gradients that are not clipped; an ensemble's heads alone would survive it."""
    line = f"{LINE} --method naive,gge --lr 1e30 --teachers {tmp_path}/alone --out {tmp_path}/wild"
    alone = LINE.replace("joint", "unimodal")
    assert typed(f"{alone} --out {tmp_path}/alone")[0] == 0
    status, _, err = typed(line)
    assert status == 1
    last = err.splitlines()[-1]
    assert last.startswith("amr: the loss must stay finite, got ")
    assert "naive_plain_seed0" in last
    curves = {file: file.stat().st_size for file in tmp_path.rglob("wild/**/events.out.tfevents*")}
    assert typed(line)[0] == 1
    assert {file: file.stat().st_size for file in tmp_path.rglob("wild/**/events.out.tfevents*")} == curves


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--method naiv,umt", "--method must be one of agm, cml,"),
        ("--method naiv,umt", "Did you mean naive?"),
        ("--amr-ratio none,1:1:1", "--amr-ratio must have one part for each of audio, video, got '1:1:1'"),
        ("--attribution grad_x_input,shaply --amr-ratio 1:1", "Did you mean shapley?"),
        ("--seeds 2 --seed 1", "--seeds must be used without --seed"),
        ("--seed 0,one", "--seed must be whole numbers separated by commas, got '0,one'"),
        ("--objective unimodal --method naive,umt", "--method must be used with --objective joint, got umt with"),
    ],
)
def test_wrong_lists_are_refused_before_anything_is_written(typed, tmp_path, options, message):
    status, out, err = typed(f"{LINE} {options} --out {tmp_path}/wrong")
    assert (status, out) == (2, "")
    assert message in err
    assert not (tmp_path / "wrong").exists()


def test_a_sweep_grows_by_values_and_may_be_moved(home, tmp_path):
    first = sweep_trainings(TrainSweepConfig(base(tmp_path / "small"), method=("umt",)))
    (tmp_path / "small").rename(tmp_path / "moved")
    before = {f: f.read_bytes() for f in (tmp_path / "moved").rglob("weights.safetensors")}
    wider = TrainSweepConfig(base(tmp_path / "moved"), method=("umt", "ume"), amr_ratio=("none", "1:1"))
    second = sweep_trainings(wider)
    assert {row["run"] for row in first.rows} < {row["run"] for row in second.rows}
    assert all(file.read_bytes() == content for file, content in before.items())
    with pytest.raises(ValueError, match=r"--out must be new or of the same sweep, .* Choose another name to keep it"):
        sweep_trainings(TrainSweepConfig(base(tmp_path / "moved"), method=("umt",)))
    (tmp_path / "moved" / "trainings" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"which holds trainings/notes.txt"):
        sweep_trainings(TrainSweepConfig(base(tmp_path / "moved"), method=("umt",)), overwrite=True)


def test_a_run_that_is_gone_is_named(home, tmp_path):
    result = sweep_trainings(TrainSweepConfig(base(tmp_path / "gone"), method=("naive",)))
    run = result.folder / "runs" / "naive_plain_seed0"
    run.rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"must have the whole run of each finished training, .* Remove '.*trainings"):
        sweep_trainings(TrainSweepConfig(base(tmp_path / "gone"), method=("naive",)))


def test_one_name_is_one_result(home):
    train_encoders(base("even", objective="unimodal"))
    with pytest.raises(ValueError, match=r"--out must be a name that .*encoders does not have, got 'even'"):
        sweep_trainings(TrainSweepConfig(base("even"), method=("naive", "umt")))
    sweep_trainings(TrainSweepConfig(base("many"), method=("naive",)))
    with pytest.raises(ValueError, match=r"--out must be a name that .*runs does not have, got 'many'"):
        train_encoders(base("many"))


def test_teachers_must_know_the_same_clips(home, tmp_path):
    train_encoders(base(tmp_path / "alone", objective="unimodal"))
    umt = {"method": "umt", "teachers": str(tmp_path / "alone")}
    train_encoders(base(tmp_path / "same", **umt))
    table = pd.read_csv(home / "data" / "synthetic" / "manifest.csv", dtype=str)
    table.assign(split_other=table["split"].replace({"train": "test", "test": "train"})).to_csv(
        home / "data" / "synthetic" / "other.csv", index=False
    )
    with pytest.raises(ValueError, match="--teachers must be trained on the same clips, labels and splits"):
        train_encoders(
            base(
                tmp_path / "other",
                dataset=None,
                manifest=str(home / "data" / "synthetic" / "other.csv"),
                split_policy="other",
                **umt,
            )
        )


def test_a_training_is_no_frontier(home, tmp_path):
    training = train_encoders(base(tmp_path / "one"))
    with pytest.raises(ValueError, match="--runs must hold runs of two settings or more, got 1"):
        frontier(FrontierConfig(runs=str(training.folder), device="cpu"))
