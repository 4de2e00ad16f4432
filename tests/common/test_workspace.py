import os
from pathlib import Path

import pytest

from amr.common.workspace import (
    encoders_dir,
    find_cache,
    find_run,
    place,
    run_name,
    runs_dir,
    training_of,
    training_runs,
)


@pytest.fixture
def elsewhere(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder outside the workspace."""
    folder = workspace / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def make_run(folder: Path, file: str = "config.json") -> Path:
    folder.mkdir(parents=True)
    (folder / file).write_text("{}")
    return folder


@pytest.mark.parametrize("file", ["config.json", "sweep.json"])
def test_a_name_is_that_of_a_run_in_the_workspace(elsewhere, file):
    folder = make_run(runs_dir() / "even", file)
    assert find_run("even") == folder
    assert find_run(Path("even")) == folder


def test_a_run_of_a_sweep_has_a_name_too(elsewhere):
    make_run(runs_dir() / "ratios", "sweep.json")
    folder = make_run(runs_dir() / "ratios" / "runs" / "plain")
    assert find_run("ratios/runs/plain") == folder


def test_a_path_is_relative_to_the_current_folder(elsewhere):
    make_run(runs_dir() / "even")
    with pytest.raises(FileNotFoundError, match="got 'runs/even'"):
        find_run("runs/even")
    folder = make_run(elsewhere / "runs" / "even")
    assert find_run("runs/even").resolve() == folder
    assert find_run(str(folder)) == folder


def test_a_run_in_the_current_folder_comes_first_and_a_folder_of_another_kind_hides_none(elsewhere):
    named = make_run(runs_dir() / "demo")
    (elsewhere / "demo").mkdir()
    assert find_run("demo") == named
    (elsewhere / "demo" / "config.json").write_text("{}")
    assert find_run("demo").resolve() == elsewhere / "demo"
    assert find_run(".") == Path(".")


def test_an_unknown_name_gets_the_closest_one_and_a_few_others(elsewhere):
    with pytest.raises(FileNotFoundError, match=r"\(none\), got 'evne'. Make one with amr fit"):
        find_run("evne")
    for name in ("even", *(f"run{i}" for i in range(20))):
        make_run(runs_dir() / name)
    (runs_dir() / "no-run").mkdir()
    with pytest.raises(FileNotFoundError) as error:
        find_run("evne", "DIR")
    message = str(error.value)
    assert message.startswith("DIR must be the folder of a run")
    assert "(even, run0, " in message
    assert message.endswith(", ...), got 'evne'. Did you mean even?")
    assert "no-run" not in message


def test_a_new_name_is_one_in_the_workspace(elsewhere):
    assert place("mine", Path("caches"), ".h5") == Path("caches/mine.h5")
    assert place("mine.h5", Path("caches"), ".h5") == Path("caches/mine.h5")
    assert place("./mine", Path("runs")) == Path("mine")
    assert place(Path("other/mine"), Path("runs")) == Path("other/mine")
    assert place(".", Path("runs")) == Path(".")


def test_a_folder_or_a_pipe_is_no_cache(workspace):
    (workspace / "caches" / "folder.h5").mkdir(parents=True)
    os.mkfifo(workspace / "caches" / "pipe.h5")
    with pytest.raises(FileNotFoundError, match=r"\(none\), got 'folder'\. Make one"):
        find_cache("folder")
    (workspace / "caches" / "c.h5").touch()
    assert find_cache(None).name == "c.h5"


def test_a_misspelled_cache_gets_the_closest_name(workspace):
    (workspace / "caches").mkdir()
    for name in ("synthetic", "grid"):
        (workspace / "caches" / f"{name}.h5").touch()
    for written in ("synthetc", "synthetc.h5", "caches/synthetc.h5"):
        with pytest.raises(FileNotFoundError, match=r"\(grid, synthetic\), got '.*'\. Did you mean synthetic\?$"):
            find_cache(written)
    with pytest.raises(FileNotFoundError, match=r"got 'quite'\. Make one with amr extract or amr import\.$"):
        find_cache("quite")


def make_training(name: str, *runs: str, finished: bool = True) -> Path:
    """A training of encoders with runs in some folders."""
    folder = encoders_dir() / name
    for encoder in ("audio", "video"):
        (folder / encoder).mkdir(parents=True)
        (folder / encoder / "encoder.json").write_text("{}")
    (folder / "config.json").write_text('{"config": {}, "clips_sha256": "0"}')
    if finished:
        (folder / "metrics.json").write_text("{}")
    for run in runs:
        make_run(folder / run)
    return folder


def test_a_joint_training_is_its_run_and_a_unimodal_one_that_of_each_modality(workspace):
    joint, alone = make_training("even", "run"), make_training("alone", "audio/run", "video/run")
    assert find_run("even") == joint / "run"
    assert find_run("alone") == alone
    assert find_run("alone/audio") == alone / "audio" / "run"
    assert training_runs(joint) == [joint / "run"]
    assert training_runs(alone) == [alone / "audio" / "run", alone / "video" / "run"]


def test_the_run_of_a_training_has_its_name(workspace):
    joint = make_training("even", "run", "teachers/audio/run")
    alone = make_training("alone", "audio/run")
    names = {joint / "run": "even", joint / "teachers/audio/run": "even/teachers/audio"}
    names |= {alone / "audio/run": "alone/audio", alone: "alone"}
    assert {run: run_name(run) for run in names} == names
    assert training_of(joint / "embeddings.h5") == joint
    assert training_of(alone / "audio" / "embeddings.h5") == alone
    assert run_name(make_run(runs_dir() / "run")) == "run"
    assert training_of(runs_dir() / "run") is None


def test_a_training_without_a_run_says_what_to_type(workspace):
    old, stopped = make_training("old"), make_training("stopped", finished=False)
    advice = rf"amr extract --encoder audio=trained:{old}/audio --encoder video=trained:{old}/video, then amr fit\.$"
    with pytest.raises(ValueError, match=rf"^DIR must be a training with a run, got '{old}'.* {advice}"):
        find_run("old", "DIR")
    swept = make_training("table/trainings/naive")
    (encoders_dir() / "table" / "sweep.json").write_text("{}")
    advice = rf"Name one of them: amr runs {encoders_dir()}/table\.$"
    with pytest.raises(ValueError, match=rf"got '{swept}', .* in {encoders_dir()}/table/runs\. {advice}"):
        find_run("table/trainings/naive")
    with pytest.raises(ValueError, match=rf"got '{stopped}', .* Finish it: run the same amr train-encoders again\.$"):
        find_run("stopped")
