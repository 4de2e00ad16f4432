"""`make gpu` is known to work before there is a GPU: each of its parts runs on a CPU, at a small scale."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from ..torture.child import Ended, run_child

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ("graphs", "sweep", "step", "table", "encoding", "extraction", "training")
SMALL = 0.002
IMPORTS = ("timm", "torchvision", "amr.extract.run", "amr.fusion.end_to_end.train", "amr.fusion.sweep.sweep")


def python(*arguments: str) -> Ended:
    """Run a script of the benchmarks as `python` does, in a process that has its imports."""
    for name in IMPORTS:
        import_module(name)
    script = ROOT / arguments[0]

    def function() -> object:
        sys.argv = [*arguments]
        sys.path[:0] = [str(script if script.is_dir() else script.parent), str(ROOT / "benchmarks")]
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as error:
            if isinstance(error.code, str):
                sys.stderr.write(error.code + "\n")
            raise
        return 0

    return run_child(function, 300, folder=ROOT, env={"COLUMNS": "160"})


@pytest.fixture(scope="module")
def parts() -> Any:
    """The module of parts."""
    return runpy.run_path(str(ROOT / "benchmarks" / "gpu" / "parts.py"))["PARTS"]


def test_these_are_all_parts(parts):
    assert tuple(parts) == ("tests", *SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_runs_on_a_cpu(parts, name):
    ended = python(*parts[name].command("cpu", SMALL))
    assert ended.code == 0, ended.stderr
    assert ended.stdout.strip()


def test_the_tests_run_on_a_cpu(tmp_path):
    ended = python("benchmarks/gpu", "--device=cpu", f"--scale={SMALL}", "--parts=tests", f"--out={tmp_path}")
    report = (tmp_path / "gpu-cpu.md").read_text()
    assert ended.code == 0, report
    assert ended.stdout.startswith("tests: done\n"), report
    assert "1 passed" in report


def test_the_report_has_each_part_and_a_part_that_fails_ends_no_other(tmp_path):
    """`timm` is missing and `h5py` damaged: parts that need them say so."""
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'timm'\")\n")
    (tmp_path / "h5py.py").write_text("raise OSError('a library of h5py is damaged')\n")
    folders = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    names, report = ("encoding", "sweep", "step"), tmp_path / "report"
    options = (f"--scale={SMALL}", f"--parts={','.join(names)}", f"--out={report}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", folders)
        ended = python("benchmarks/gpu", "--device=cpu", *options)
    text = (report / "gpu-cpu.md").read_text()
    assert ended.code == 1, ended.stderr
    assert ended.stdout.splitlines()[:3] == [
        "encoding: left out: Python has no package timm",
        "sweep: failed: OSError: a library of h5py is damaged",
        "step: done",
    ], text
    assert "tries the script and measures nothing" in text
    assert "Traceback" in text
    assert "## AMR's step" in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_a_sentence(tmp_path):
    ended = python("benchmarks/gpu", f"--out={tmp_path}")
    assert ended.code not in (0, 2)
    (line,) = ended.stderr.splitlines()
    assert line == "--device must be available, got cuda without a GPU. Pass --device cpu --scale 0.01 to try it."
    assert list(tmp_path.iterdir()) == []


def test_unknown_parts_are_refused_before_anything_slow_is_imported(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu"), "--device=cpu", "--parts=sweep,nope"]
    ended = subprocess.run([*command, f"--out={tmp_path}"], capture_output=True, text=True)
    assert ended.returncode != 0
    assert "--parts must be of tests, graphs, sweep, step" in ended.stderr
    assert "got nope" in ended.stderr
