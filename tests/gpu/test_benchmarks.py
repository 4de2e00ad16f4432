"""`make gpu` is known to work before there is a GPU: each of its parts runs on a CPU, at a small scale."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("tests", "graphs", "sweep", "step", "table", "encoding", "extraction", "training")


def gpu(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


@pytest.mark.parametrize("part", PARTS)
def test_each_part_runs_on_a_cpu(part, tmp_path):
    ended = gpu("--device=cpu", "--scale=0.002", f"--parts={part}", "--out", tmp_path)
    report = (tmp_path / "gpu-cpu.md").read_text()
    assert ended.returncode == 0, report
    assert ended.stdout.startswith(f"{part}: done\n"), report
    assert "tries the script and measures nothing" in report


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_a_sentence(tmp_path):
    ended = gpu("--out", tmp_path)
    assert ended.returncode != 0
    (line,) = ended.stderr.splitlines()
    assert line == "--device must be available, got cuda without a GPU. Pass --device cpu --scale 0.01 to try it."
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_and_a_failure_ends_no_other_part(tmp_path):
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'timm'\")\n")
    (tmp_path / "h5py.py").write_text("raise OSError('a library of h5py is damaged')\n")
    folders = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    parts = "--parts=encoding,sweep,step"
    ended = gpu("--device=cpu", "--scale=0.002", parts, "--out", tmp_path / "report", PYTHONPATH=folders)
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[:3] == [
        "encoding: left out: Python has no package timm",
        "sweep: failed: OSError: a library of h5py is damaged",
        "step: done",
    ]
    report = (tmp_path / "report" / "gpu-cpu.md").read_text()
    assert "Traceback" in report
    assert "## AMR's step" in report


def test_unknown_parts_are_refused(tmp_path):
    ended = gpu("--device=cpu", "--parts=sweep,nope", "--out", tmp_path)
    assert ended.returncode != 0
    assert "--parts must be of tests, graphs, sweep, step" in ended.stderr
    assert "got nope" in ended.stderr
