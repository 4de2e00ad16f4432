"""Commands in processes of their own: what Ctrl-C and other signals leave.

Ctrl-C and SIGHUP are sent as by a terminal, to the command and to its workers; SIGTERM to the command alone.
"""

from __future__ import annotations

import atexit
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from amr.__main__ import main
from amr.cli import run
from amr.data_manifests.synthetic import SyntheticConfig, render
from amr.extract.config import ImportConfig
from amr.extract.import_embeddings import import_embeddings

from ..torture.child import Child

SECONDS = 120


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A workspace with a cache, and a manifest long enough to stop its extraction."""
    folder = tmp_path_factory.mktemp("home")
    render(SyntheticConfig(num_classes=2, num_clips=20), folder / "media")
    files = sorted((folder / "media" / "clips").glob("*.mp4"))
    rows = [(f"c{i}", str(files[i % 20]), "ab"[i % 2], ("train", "val")[i % 10 == 0]) for i in range(20_000)]
    for name, of_rows in (("long.csv", rows), ("short.csv", rows[:20])):
        pd.DataFrame(of_rows, columns=["id", "path", "label", "split"]).to_csv(folder / name, index=False)
    np.save(folder / "a.npy", np.random.default_rng(0).normal(size=(60, 4)))
    (folder / "labels.txt").write_text("".join(f"{i % 2}\n" for i in range(60)))
    import_embeddings(
        ImportConfig(
            embeddings=(f"a={folder}/a.npy", f"b={folder}/a.npy"),
            labels=f"{folder}/labels.txt",
            splits="train=40,val=10,test=10",
            out=str(folder / "caches" / "small.h5"),
        )
    )
    return folder


def interrupted(
    home: Path, line: str, begun: Callable[[str], bool], *options: str, by: signal.Signals = signal.SIGINT
) -> tuple[int, str]:
    """Exit status and stderr of a command that gets a signal when `begun`, given its stderr so far, is true."""
    command = [sys.executable, *options, "-m", "amr", *line.split()]
    return stopped(home, partial(os.execv, sys.executable, command), begun, by)


def interrupted_at_work(home: Path, line: str, begun: Callable[[str], bool]) -> tuple[int, str]:
    """The same with Ctrl-C, without the time that the imports take: the process has them."""

    def program() -> None:
        atexit._clear()  # what pytest would do at its end
        sys.argv = ["amr", *line.split()]
        main()

    return stopped(home, program, begun, signal.SIGINT)


def stopped(
    home: Path, program: Callable[[], object], begun: Callable[[str], bool], by: signal.Signals
) -> tuple[int, str]:
    """Exit status and stderr of a program in a process group of its own that gets a signal when `begun`."""
    log = home / "stderr.txt"
    log.write_text("")

    def function() -> None:
        _default_signals()
        with log.open("w") as stderr:
            os.dup2(stderr.fileno(), 2)
        program()

    child = Child(function, folder=home, env={"AMR_HOME": str(home)})
    try:
        end = time.monotonic() + SECONDS
        while not begun(log.read_text()):
            assert os.waitpid(child.pid, os.WNOHANG) == (0, 0), log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.01)
        (os.kill if by == signal.SIGTERM else os.killpg)(child.pid, by)
        ended = child.wait(SECONDS, grace_seconds=10)
        assert ended.orphans == ()
        return ended.code, log.read_text()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


def _default_signals() -> None:
    """Undo that shells ignore SIGINT for background jobs, and `nohup` SIGHUP: the command ignores them then, too."""
    for each in (signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_DFL)


LINES = (
    "fit --cache small --epochs 1000000 --device cpu --out seeded",
    "extract --manifest long.csv --workers 2 --device cpu --out seeded",
    "sweep --cache small --epochs 1000000 --seeds 2 --device cpu --out seeded-sweep",
)


@pytest.mark.parametrize("seed", range(6))
def test_at_any_moment_one_sentence_and_no_worker(home, seed):
    draws = random.Random(seed)
    line = LINES[seed % len(LINES)]
    by = draws.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    at = time.monotonic() + draws.uniform(0.1, 5)
    status, err = interrupted(home, line, lambda _: time.monotonic() >= at, by=by)
    assert "Traceback" not in err
    assert "Exception" not in err
    assert status == 128 + by
    said = err.splitlines()[-1]
    assert said.startswith("amr: stopped. ")
    assert said.endswith(("Run the same command to start over.", "run the same command to continue."))


def test_a_fit_leaves_nothing(home):
    runs = home / "runs"
    status, err = interrupted_at_work(
        home, "fit --cache small --epochs 1000000 --device cpu", lambda _: any(runs.rglob(".unfinished/config.json"))
    )
    assert (status, err) == (130, "amr: stopped. Run the same command to start over.\n")
    assert list(runs.iterdir()) == []


def test_a_sweep_keeps_its_finished_runs(home):
    line = "sweep --cache small --amr-ratio none,1:1 --seeds 4 --epochs 1000000 --device cpu --out runs/sweep"
    status, err = interrupted_at_work(home, line, lambda _: any((home / "runs/sweep").rglob("config.json")))
    assert (status, err) == (130, "amr: stopped. Finished runs are saved; run the same command to continue.\n")


@pytest.mark.parametrize(
    ("line", "place", "kept"),
    [
        ("sweep --cache small --out early", "amr.fusion.sweep.sweep.read_training_data", None),
        ("table --cache small --out early", "amr.fusion.sweep.table.read_training_data", None),
        ("extract --manifest short.csv --out early", "amr.extract.run.ManifestFiles", None),
        ("sweep --cache small --epochs 1 --out begun", "amr.fusion.sweep.sweep.Results.write", "runs"),
        ("extract --manifest short.csv --out begun", "amr.extract.run.run_batches", "clips"),
    ],
)
def test_what_is_kept_is_said_only_if_it_was_begun(home, monkeypatch, capfd, line, place, kept):
    monkeypatch.chdir(home)
    monkeypatch.setenv("AMR_HOME", str(home))
    monkeypatch.setattr(place, lambda *_, **__: signal.raise_signal(signal.SIGINT))
    assert run([*line.split(), "--device", "cpu"]) == 130
    said = capfd.readouterr().err.splitlines()[-1]
    if kept is None:
        assert said == "amr: stopped. Run the same command to start over."
        assert not [*home.glob("*/early*")]
    else:
        assert said == f"amr: stopped. Finished {kept} are saved; run the same command to continue."


def test_an_extraction_with_workers_keeps_its_finished_clips(home):
    line = "extract --manifest long.csv --workers 2 --device cpu --out long"
    status, err = interrupted_at_work(home, line, lambda err: "clips/s" in err)  # the first line of progress
    assert status == 130
    assert err.splitlines()[-1] == "amr: stopped. Finished clips are saved; run the same command to continue."
    assert "Traceback" not in err


def test_a_training_keeps_its_clips(home):
    line = "train-encoders --manifest short.csv --encoder video=timm:test_efficientnet,size=32,frames=1,weights=random"
    line += " --epochs 1000000 --workers 2 --device cpu --out own"
    status, err = interrupted_at_work(home, line, lambda err: "epoch 1/" in err)
    assert status == 130
    assert err.splitlines()[-1].endswith("run the same command to continue.")
    assert "Traceback" not in err


@pytest.mark.parametrize("module", ["amr.common.options", "typer", "numpy", "torch._C", "torch.nn.modules"])
def test_during_the_imports_of_the_start(home, module):
    line = "fit --cache small --epochs 1000000 --device cpu"
    status, err = interrupted(home, line, lambda err: module in err, "-X", "importtime")
    assert status == 130
    assert err.splitlines()[-1] == "amr: stopped. Run the same command to start over."
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            PermissionError(13, "Permission denied", "a.h5"),
            "'a.h5' must be usable, got 'Permission denied'. Check who may use it, or name another file.",
        ),
        (NotADirectoryError(20, "Not a directory", "a/b"), "'a/b' must be usable, got 'Not a directory'. Check it."),
        (
            FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"),
            "the temporary folder must take a file, got \"No usable temporary directory found in ['/tmp']\". "
            "Set TMPDIR to another folder.",
        ),
    ],
)
def test_refusals_of_the_system_are_sentences(monkeypatch, capsys, error, text):
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr("amr.common.workspace.caches_dir", refuse)
    assert run(["fit", "--cache", "c"]) == (1 if isinstance(error, PermissionError) else 2)
    assert capsys.readouterr().err.strip() == f"amr: {text}"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("fti", "command must be a command of amr, got 'fti'. Did you mean fit? See amr --help."),
        ("zzzz", "command must be a command of amr, got 'zzzz'. See amr --help."),
        ("fit --hed x", "option must be an option of amr fit, got '--hed'. Did you mean --head? See amr fit --help."),
        ("fit --zzzz 3", "option must be an option of amr fit, got '--zzzz'. See amr fit --help."),
        ("--vers", "option must be an option of amr, got '--vers'. Did you mean --version? See amr --help."),
        (
            "explain -3",
            "option must be an option of amr explain, got '-3'. Pass an id that begins with - as --clip=-3.",
        ),
        ("merge", "SHARD must be given, got none. See amr merge --help."),
        ("fit --head", "--head must have a value, got none. See amr fit --help."),
        ("fit --json=3", "--json must have no value, got '3'. Pass --json alone."),
        ("fit --epochs x", "--epochs must be a whole number, got 'x'. See amr fit --help."),
        ("fit a b", "arguments must be those that amr fit takes, got 'a b' too. See amr fit --help."),
    ],
)
def test_errors_of_the_parser_have_the_form_of_all_others(capsys, line, text):
    assert run(line.split()) == 2
    assert capsys.readouterr().err.strip() == f"amr: {text}"
