"""The tools of the long tests see what they are there to see."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from ..test_layers import MAX_MODULES
from . import __main__ as torture
from .child import Child, Ended, run_child
from .damage import differences, flips, mutations, tenths


def raises() -> None:
    raise KeyError("x")


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        (lambda: None, ""),
        (lambda: sys.stderr.write("amr: --out must be new, got x. Pass another.\n") and 2, ""),
        (lambda: 1, "exit status 1 without a sentence"),
        (lambda: 3, "exit status 3"),
        (raises, "traceback: KeyError"),
        (lambda: os.abort(), "died of SIGABRT"),
        (lambda: subprocess.Popen(["sleep", "60"]) and None, "1 processes left behind"),
    ],
)
def test_a_process_is_judged_by_how_it_ends(function, fault):
    ended = Child(function).wait(30, grace_seconds=0.1)
    found = ended.fault()
    assert found.startswith(fault)
    assert bool(found) == bool(fault)
    assert "Fatal Python error" not in ended.stderr  # no stacks of the process that runs the tests


def test_a_process_has_bounds_of_time_and_memory():
    assert run_child(lambda: time.sleep(60), 0.2).stopped == "time"

    def grow() -> None:
        kept = [b"x" * 2**20 * 64 for _ in range(64)]
        time.sleep(60 + len(kept))

    bound = 2**30 + int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    ended = run_child(grow, 60, max_bytes=bound)
    assert ended.stopped == "memory"
    assert ended.peak_bytes > bound


def test_what_a_process_prints_is_kept_and_it_knows_its_folder(tmp_path):
    def function() -> int:
        print(os.getcwd(), os.environ["NAME"])  # noqa: T201
        os.write(2, b"raw")
        return 0

    ended = run_child(function, folder=tmp_path, env={"NAME": "value"})
    assert (ended.code, ended.stdout, ended.stderr) == (0, f"{tmp_path} value\n", "raw")


def test_a_process_computes_with_threads_after_this_one_has():
    def compute() -> None:
        torch.set_num_threads(2)
        (torch.ones(10**6) + 1).sum()

    before = torch.get_num_threads()
    try:
        compute()
        assert run_child(compute, 30).fault() == ""
    finally:
        torch.set_num_threads(before)


def test_an_ended_process_of_success_has_no_fault():
    assert Ended(0, "", "a warning\n", 1.0).fault() == ""
    assert Ended(1, "", "amr: it must work, got an error. Try again.\n", 1.0).fault(allowed=(0,)) != ""


def test_damage_is_seeded_and_is_damage():
    data = bytes(range(256)) * 4
    assert list(flips(data, 20, seed=1)) == list(flips(data, 20, seed=1)) != list(flips(data, 20, seed=2))
    for _, damaged in flips(data, 20, seed=1):
        assert sum((a ^ b).bit_count() for a, b in zip(data, damaged, strict=True)) == 1
    assert [len(cut) for _, cut in tenths(data)] == [1024 * i // 10 for i in range(10)] + [1023]
    assert list(mutations(data, 50, seed=3)) == list(mutations(data, 50, seed=3))


def test_folders_differ_in_the_files_that_differ(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        (folder / "inner").mkdir(parents=True)
        (folder / "inner" / "same").write_text("a")
        (folder / "log").write_text(folder.name)
    assert differences(one, other) == ["log"]
    (other / "new").mkdir()
    (one / "inner" / "same").write_text("b")
    assert differences(one, other, without=("log",)) == ["inner/same", "new"]


def row(module: str, *lost: str) -> dict[str, object]:
    counts = {
        "tries": 9,
        "survived": 9 - len(lost),
        "lost": list(lost),
        "seconds": 1.0,
        "peak_bytes": 2**20,
        "note": "",
    }
    return {"module": module, "kind": f"{module} of [b]"} | counts


@pytest.mark.parametrize(("lost", "status"), [((), 0), (("byte 1\x1b[31m",), 1)])
def test_the_table_names_what_is_lost_and_how_to_do_it_again(lost, status, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torture, "run_one", lambda module, seed, scale: [row(module, *lost)])
    out = tmp_path / "out.json"
    given = ["--only=files.caches", "--only=runs", "--seed=5", "--scale=0.1", f"--out={out}"]
    assert torture.main(given) == status
    printed = capsys.readouterr().out
    assert f"| files.caches of [b] |     9 |        {9 - len(lost)} |" in printed
    assert ("python -m tests.torture --only files.caches --seed 5 --scale 0.1" in printed) == bool(lost)
    assert ("byte 1\\x1b[31m" in printed) == bool(lost)
    assert [each["module"] for each in json.loads(out.read_text())["rows"]] == ["files.caches", "files.runs"]


def test_a_kind_that_breaks_is_lost():
    (only,) = torture.run_one("no_such_module", 0, 1.0)
    assert only["survived"] == 0
    assert "No module named 'tests.torture.no_such_module'" in only["lost"][0]


def test_every_module_of_the_table_has_run():
    folder = Path(torture.__file__).parent
    written = {path for path in folder.rglob("*.py") if "\ndef run(seed" in path.read_text(encoding="utf-8")}
    assert written == {folder / f"{module.replace('.', '/')}.py" for module in torture.MODULES}


def test_no_folder_holds_more_modules_than_one_of_the_package():
    folder = Path(torture.__file__).parent
    modules = Counter(path.parent for path in folder.rglob("*.py"))
    assert max(modules.values()) <= MAX_MODULES, modules
