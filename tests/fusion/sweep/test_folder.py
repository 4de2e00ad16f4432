"""When a sweep continues in a folder, and when it may replace what the folder holds."""

import json
import shutil
import subprocess
import sys
from contextlib import contextmanager

import pytest

from amr.common.progress import Progress
from amr.fusion.sweep.sweep import sweep
from amr.fusion.swept import SweepConfig


@pytest.fixture
def run(small_cache, workspace):
    """Sweep into runs/mine."""

    def call(*, overwrite: bool = False, seeds: int | None = 1, swept: dict[str, str] | None = None, **changes):
        fixed = {"cache": str(small_cache), "epochs": 1, "device": "cpu", "out": "mine", **changes}
        return sweep(SweepConfig.parse(seeds=seeds, swept=swept or {}, **fixed), overwrite=overwrite)

    return call


def test_another_sweep_in_the_folder_is_replaced_with_overwrite_only(run):
    folder = run().folder
    with pytest.raises(
        ValueError,
        match=r"a sweep with --lr none \(now 0.1\), --seed 0 \(now 0,1\). Choose another name to keep it, or pass --ov",
    ):
        run(seeds=2, swept={"lr": "0.1"})
    with pytest.raises(
        ValueError, match=r"a sweep with --epochs 1 \(now 2\). Choose another name to keep it, or pass --ov"
    ):
        run(epochs=2)
    again = run(seeds=2, swept={"lr": "0.1"}, overwrite=True)
    assert json.loads((folder / "sweep.json").read_text())["seed"] == [0, 1]
    assert {path.name for path in (folder / "runs").iterdir()} == {str(row["run"]) for row in again.rows}


def test_the_same_sweep_goes_on_however_its_cache_is_typed(run, small_cache):
    first = run()
    finished = {path: path.stat().st_mtime_ns for path in first.folder.rglob("metrics.json")}
    assert run(cache=small_cache.stem).rows == first.rows
    assert run(cache=small_cache.stem, overwrite=True).rows == first.rows
    assert {path: path.stat().st_mtime_ns for path in first.folder.rglob("metrics.json")} == finished


@pytest.mark.parametrize("place", [".", "runs", "runs/naive_concat_plain_seed0"])
def test_a_folder_with_something_that_no_command_wrote_is_never_replaced(run, place):
    folder = run().folder
    (folder / place / "notes.txt").write_text("dear diary")
    with pytest.raises(ValueError, match=r"which holds .*notes.txt. Choose another name"):
        run(seeds=2, overwrite=True)
    assert (folder / "results.csv").is_file()


def test_a_folder_that_is_no_sweep_is_refused(run, workspace):
    folder = workspace / "runs" / "mine"
    folder.mkdir(parents=True)
    run()  # an empty one is not
    for file in folder.glob("sweep.json"):
        file.unlink()
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="--out must be new, empty or an earlier sweep"):
            run(overwrite=overwrite)
    (folder / "sweep.json").write_text("{")
    with pytest.raises(
        ValueError, match=r"a sweep with a damaged sweep\.json\. Choose another name to keep it, or pass"
    ):
        run(epochs=2)
    assert len(run(epochs=2, overwrite=True).rows) == 2
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "sweep.json").write_text("{}")  # of another program
    with pytest.raises(ValueError, match=r"a sweep with a damaged sweep\.json"):
        run()


@pytest.mark.parametrize("out", ["notes.txt", "notes.txt/run"])
def test_a_folder_that_cannot_be_written_to_is_refused(run, workspace, out):
    (workspace / "notes.txt").write_text("dear diary")
    with pytest.raises(ValueError, match="--out must be a place that can be written to"):
        run(out=str(workspace / out))
    assert (workspace / "notes.txt").read_text() == "dear diary"


# holds a lock until its stdin ends, as another process
HOLD = """
import sys
from pathlib import Path
from amr.common.files.lock import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(path):
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield
        process.stdin.close()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_second_sweep_in_the_folder_is_refused_and_removes_nothing(run, overwrite, workspace):
    folder = run().folder
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with held(folder / "sweep.json"):
        with pytest.raises(RuntimeError, match=r"runs/mine' must be written by one sweep at a time, got a second one"):
            run(seeds=2 if overwrite else 1, overwrite=overwrite)
        after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.suffix != ".lock"}
    assert after == before
    assert len(run(seeds=2, overwrite=True).rows) == 4


def test_a_sweep_holds_its_folder_while_it_fits(run, small_cache, workspace):
    messages = []

    class Second(Progress):
        def start(self, total, done=0, unit="runs"):
            try:
                run(seeds=2, overwrite=True)
            except RuntimeError as error:
                messages.append(str(error))

    request = SweepConfig.parse(swept={}, seeds=1, cache=str(small_cache), epochs=1, device="cpu", out="mine")
    assert len(sweep(request, Second()).rows) == 2
    assert "one sweep at a time" in messages[0]
    assert not [*(workspace / "runs" / "mine").glob("*.lock")]


def test_the_lock_that_a_killed_sweep_left_blocks_nothing(run, workspace):
    (workspace / "runs" / "mine").mkdir(parents=True)
    (workspace / "runs" / "mine" / "sweep.json.lock").touch()
    run()
    (workspace / "runs" / "mine" / "sweep.json.lock").touch()
    assert len(run(seeds=2, overwrite=True).rows) == 4


def test_a_sweep_that_began_since_the_folder_was_chosen_is_not_replaced(run, monkeypatch):
    from amr.fusion.sweep import sweep as module

    real = module.resolve

    def late(*arguments):  # another process sweeps after the folder was chosen, and ends before this sweep begins
        monkeypatch.setattr(module, "resolve", real)
        run()
        return real(*arguments)

    monkeypatch.setattr(module, "resolve", late)
    with pytest.raises(ValueError, match=r"a sweep with --seed 0 \(now 0,1\)"):
        run(seeds=2)
