"""Start-up: a refusal that needs no data, and --help, import neither torch nor pandas."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys

import numpy as np
import pytest

from amr.extract.config import ImportConfig
from amr.extract.import_embeddings import import_embeddings

SLOW = ("torch", "pandas", "numpy", "scipy", "sklearn", "h5py", "av", "torch._dynamo")
REPORT = "import json, sys; from amr.cli import run; code = run(sys.argv[2:])\n"
REPORT += "print('\\n' + json.dumps([code, [name for name in sys.argv[1].split() if name in sys.modules]]))"
REFUSED = (
    "fit --head conc",
    "fit --method niave",
    "fit --attribution shaply",
    "fit --amr-ratio 1:x",
    "fit --cache nope",
    "fit --no-such-option",
    "sweep --head concat,conc",
    "sweep --cache nope",
    "table --cache nope",
    "table --method niave",
    "frontier --cache nope",
    "extract --dataset nope",
    "extract --manifest nope.csv",
    "extract --dataset crema-d --shard 3/2",
    "extract --dataset crema-d --device gpu",
    "merge nope --out all",
    "extract --dataset crema-d --encoder audio=nope",
    "train-encoders --manifest nope.csv",
    "train-encoders --dataset nope",
    "train-encoders --dataset crema-d --encoder audio=nope",
    "train-encoders --manifest short.csv --objective joint --method niave",
    "manifest --dataset nope",
    "import --embeddings a=a.npy",
    "inspect nope",
    "verify nope",
    "evaluate nope",
    "predict nope clip.mp4",
    "explain nope clip.mp4",
    "report nope",
    "runs nope",
)
HELP = (("--help",), ("--version",), ("fit", "--help"), ("sweep", "--help"))


def imported(folder, *arguments: str) -> tuple[int, list[str]]:
    """Exit status of a command, and which of the slow modules it has imported."""
    command = [sys.executable, "-c", REPORT, " ".join(SLOW), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    code, names = json.loads(done.stdout.splitlines()[-1])
    return code, names


def test_what_needs_no_data_is_refused_before_anything_slow_is_imported(tmp_path):
    (tmp_path / "short.csv").write_text("path,label\nclip.mp4,a\n")
    code = f"""
import sys
from amr.cli import run
for line in {REFUSED!r}:
    assert run(line.split()) == 2, line
    assert not {{*{SLOW!r}}} & sys.modules.keys(), line
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == len(REFUSED), done.stderr


@pytest.mark.parametrize("arguments", HELP, ids=" ".join)
def test_help_imports_nothing_slow(tmp_path, arguments):
    assert imported(tmp_path, *arguments) == (0, [])


def test_a_fit_and_a_table_import_no_compiler(tmp_path):
    for number, name in enumerate("av"):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(number).normal(size=(40, 3)))
    (tmp_path / "labels.txt").write_text("a\nb\n" * 20)
    (tmp_path / "splits.txt").write_text("train\ntrain\nval\ntest\n" * 10)
    files = {"labels": "labels.txt", "splits": "splits.txt", "out": "c.h5"}
    with contextlib.chdir(tmp_path):
        import_embeddings(ImportConfig(("a=a.npy", "v=v.npy"), **files))
    code = f"""
import sys
from amr.cli import run
assert run(["fit", "--cache=c.h5", "--epochs=1", "--device=cpu"]) == 0
assert [name for name in {SLOW!r} if name in sys.modules] == ["torch", "pandas", "numpy", "h5py"], "fit"
assert run(["table", "--cache=c.h5", "--epochs=1", "--device=cpu", "--method=naive", "--seeds=3"]) == 0
found = {{"torch._dynamo", "torchvision", "sklearn", "scipy.stats"}} & sys.modules.keys()
assert not found, found
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
