"""When a fit may replace what its folder holds, and what a fit that ends early leaves."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from amr.common.files import checksummed
from amr.common.files.lock import lock
from amr.common.progress import Progress
from amr.fusion.config import FitConfig
from amr.fusion.evaluate.config import EvaluateConfig
from amr.fusion.evaluate.evaluate import evaluate
from amr.fusion.explain.config import ExplainConfig
from amr.fusion.explain.explain import explain
from amr.fusion.fit import fit
from amr.fusion.runs import folder as runs_folder
from amr.fusion.runs.folder import RUN_FILES, UNFINISHED
from amr.fusion.runs.record import RunRecord


@pytest.fixture
def run(small_cache, workspace):
    """Fit into runs/mine."""

    def call(progress: Progress | None = None, *, overwrite: bool = False, **changes) -> Path:
        request = {"cache": str(small_cache), "epochs": 2, "lr": 0.01, "device": "cpu", "out": "mine", **changes}
        return fit(FitConfig(**request), progress, overwrite=overwrite).run

    return call


class Stopping(Progress):
    """Ctrl-C after the first epoch."""

    def advance(self, amount, failures=0):
        raise KeyboardInterrupt


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_same_settings_fit_again_and_other_settings_need_overwrite(run):
    folder = run(amr_ratio="1:3")
    before = content(folder)
    assert content(run(amr_ratio="audio=2:video=6")).keys() == before.keys()  # the same ratio
    with pytest.raises(ValueError, match=r"a run with --amr-ratio .* \(now none\), --seed 0 \(now 1\). Pass --overw"):
        run(seed=1)
    assert RunRecord.read(folder).config.seed == 0
    assert RunRecord.read(run(seed=1, overwrite=True)).config.seed == 1


def test_an_error_lists_few_of_many_differences(run):
    run()
    with pytest.raises(ValueError, match="and 2 more"):
        run(seed=1, epochs=3, hidden=4, batch_size=10, lr=0.1)


def test_a_run_that_was_evaluated_and_explained_stays_a_run(run):
    folder = run()
    evaluate(EvaluateConfig(folder, bootstrap=0, noise_draws=1, device="cpu"))
    explain(ExplainConfig(folder, "a00_c000", device="cpu"))
    assert (folder / "evaluation.npz").is_file()
    run(seed=1, overwrite=True)
    assert {file.name for file in folder.iterdir()} == set(RUN_FILES) - {"labels.csv"}  # nothing of the old run is left


@pytest.mark.parametrize("place", [".", "fold-0", "extra"])
def test_a_folder_with_something_that_no_command_wrote_is_never_replaced(run, place):
    folder = run(folds=3)
    (folder / place).mkdir(exist_ok=True)
    (folder / place / "notes.txt").write_text("dear diary")
    before = content(folder)
    for overwrite in (False, True):
        with pytest.raises(ValueError, match=r"--out must be new, empty or an earlier run, got .* which holds"):
            run(folds=3, overwrite=overwrite)
    assert content(folder) == before


def test_files_of_a_run_s_names_are_no_run(run, workspace):
    folder = workspace / "runs" / "mine"
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_text("of a model that took a week")
    with pytest.raises(ValueError, match="--out must be new, empty or an earlier run"):
        run(overwrite=True)
    assert (folder / "weights.safetensors").is_file()


def test_files_of_another_program_with_checksums_are_no_run(run, workspace):
    folder = workspace / "runs" / "mine"
    folder.mkdir(parents=True)
    with checksummed(folder, "config.json", "weights.safetensors"):
        (folder / "config.json").write_text('{"model_type": "bert"}')
        (folder / "weights.safetensors").write_text("of a model that took a week")
    before = content(folder)
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="--out must be new, empty or an earlier run"):
            run(overwrite=overwrite)
    assert content(folder) == before


@pytest.mark.parametrize("out", ["mine", None])
def test_a_stopped_fit_leaves_nothing(run, workspace, out):
    with pytest.raises(KeyboardInterrupt):
        run(Stopping(), out=out)
    assert list((workspace / "runs").iterdir()) == []


def test_a_fit_that_diverges_leaves_nothing(run, workspace):
    with pytest.raises(RuntimeError, match="smaller --lr"):
        run(optimizer="sgd", lr=1e38, epochs=1, batch_size=1000)
    assert list((workspace / "runs").iterdir()) == []
    run(optimizer="sgd", lr=1e-3, epochs=1, batch_size=1000)


def test_a_stopped_fit_leaves_the_earlier_run_as_it_was(run):
    before = content(folder := run())
    with pytest.raises(KeyboardInterrupt):
        run(Stopping())
    assert content(folder) == before
    assert not (folder / UNFINISHED).exists()


def test_what_a_killed_fit_left_is_replaced_under_the_same_name(run, workspace):
    folder = run(out=None)
    (folder / UNFINISHED).mkdir()
    for file in [file for file in folder.iterdir() if file.name != UNFINISHED]:
        file.rename(folder / UNFINISHED / file.name)
    assert run(out=None, seed=0) == folder
    (folder / "metrics.json").unlink()  # as an earlier release left it
    assert run(out=None) == folder
    assert run(out=None) == folder.with_name(f"{folder.name}_2")


def test_two_fits_at_once_get_two_folders(run, workspace):
    folder = run(out=None)
    (folder / "metrics.json").unlink()
    with lock(folder / UNFINISHED):  # a lock excludes its own process, too
        assert run(out=None) == folder.with_name(f"{folder.name}_2")


def test_a_second_fit_in_a_folder_is_refused_by_the_name_of_the_run(run, workspace):
    folder = run(out="mine")
    with lock(folder / UNFINISHED), pytest.raises(RuntimeError, match=r"runs/mine' must be written by one fit"):
        run(out="mine")


def test_the_current_folder_can_be_the_run(run, tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(folder)
    run(out=".")
    assert json.loads((folder / "metrics.json").read_text())["test"] is not None


@pytest.mark.parametrize(
    ("out", "rule"), [("notes.txt", "a folder, got the file"), ("notes.txt/run", "a place that can be written to")]
)
def test_a_folder_that_cannot_be_written_to_is_refused(run, workspace, out, rule):
    (workspace / "notes.txt").write_text("dear diary")
    with pytest.raises(ValueError, match=f"--out must be {rule}"):
        run(out=str(workspace / out))
    assert (workspace / "notes.txt").read_text() == "dear diary"


def test_a_run_that_ends_while_another_fit_waits_is_not_replaced(run, workspace, monkeypatch):
    folder = run()
    before = content(folder)
    checks = iter([None])  # the first check sees an unfinished run
    check = runs_folder._check_replaceable
    monkeypatch.setattr(runs_folder, "_check_replaceable", lambda *a: next(checks, check) and check(*a))
    with pytest.raises(ValueError, match="a run with --seed 0"):
        run(seed=1)
    assert content(folder) == before


def test_a_run_with_a_damaged_config_is_replaced_with_overwrite_only(run):
    folder = run()
    before = content(folder)
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"seed": 0', '"seed": 1'))
    with pytest.raises(ValueError, match=r"--out must hold whole files, got a damaged '.*config.json' .* --overwrite"):
        run()
    assert content(run(overwrite=True)) == before


@pytest.mark.parametrize("folds", [0, 3])
def test_coreutils_check_a_run(run, folds):
    if shutil.which("sha256sum") is None:
        pytest.skip("coreutils are not installed")
    folder = run(folds=folds)
    evaluate(EvaluateConfig(run="mine", device="cpu", bootstrap=0, noise_draws=1))
    places = [folder, *folder.glob("fold-*")]
    assert len(places) == 1 + folds
    for place in places:
        listed = {line.split("  ")[1] for line in (place / "SHA256SUMS").read_text().splitlines()}
        assert listed == {file.name for file in place.iterdir() if file.is_file()} - {"SHA256SUMS"}
        assert subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=place).returncode == 0
