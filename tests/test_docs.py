"""What documents say is so: every command is described, links lead somewhere, examples run."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from amr.cli import app
from amr.data_manifests.synthetic import SyntheticConfig, render
from amr.fusion.evaluate.measures import measures
from amr.fusion.sweep.table import TABLE_1

from .conftest import without
from .torture.child import run_child

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = typer.main.get_command(app).commands
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("data_manifests/*.md")]
USER_DOCUMENTS = [ROOT / "README.md", *ROOT.glob("docs/*.md")]


@pytest.fixture(scope="module")
def user_text() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in USER_DOCUMENTS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_described(user_text, command):
    assert f"`amr {command}" in user_text or f"amr {command} " in user_text


def test_no_document_types_a_command_or_an_option_that_is_not_there():
    lines = [
        line.partition("#")[0]
        for path in DOCUMENTS
        for line in re.findall(r"\bamr [a-z]+[^`\n|]*", path.read_text(encoding="utf-8"))
        if " --" in line or line.split()[1] in COMMANDS
    ]
    assert lines
    for line in lines:
        name = line.split()[1]
        assert name in COMMANDS, line
        known = {option for each in COMMANDS[name].params for option in each.opts} | {"--help"}
        assert set(re.findall(r"(?<=\s)--[a-z][a-z-]*", line)) <= known, line


def test_every_make_target_that_is_named_has_a_rule():
    text = "\n".join(path.read_text(encoding="utf-8") for path in [*USER_DOCUMENTS, ROOT / "CONTRIBUTING.md"])
    named = set(re.findall(r"(?:^    |`)make ([a-z-]+)", text, re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split())
    rules = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    assert named
    assert named <= phony
    assert phony == rules


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_inside_the_project_lead_somewhere(path):
    prose = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not target.startswith(("http:", "https:", "#")):
            assert (path.parent / target.partition("#")[0]).exists(), f"{path.name}: {target}"


def test_decisions_have_numbers_of_their_own():
    numbers = [path.name[:4] for path in (ROOT / "docs/decisions").glob("[0-9]*.md")]
    assert sorted(numbers) == [f"{i:04d}" for i in range(1, len(numbers) + 1)]


def test_the_table_of_measures_is_the_registry():
    text = (ROOT / "docs/evaluation.md").read_text(encoding="utf-8")
    _, _, *rows = text.partition("`amr measures` lists them:\n\n")[2].partition("\n\n")[0].splitlines()
    assert rows == [f"| `{name}` | {m.summary} | {m.citation or '-'} |" for name, m in measures.items()]


CITATION = re.compile(r"[Pp]aper, (?:sections? \d|eq\. \d|table \d)")


def test_files_that_cite_the_paper_are_on_its_page():
    page = (ROOT / "docs/paper.md").read_text(encoding="utf-8")
    files = [file for file in (ROOT / "fusion").rglob("*.py") if CITATION.search(file.read_text(encoding="utf-8"))]
    assert len(files) > 5
    for file in files:
        assert f"](../{file.relative_to(ROOT).as_posix()})" in page, file


def test_table_1_beside_the_paper_is_that_of_the_results():
    page, results = ((ROOT / f"docs/{name}.md").read_text(encoding="utf-8") for name in ("paper", "results"))
    rows = re.search(r"teachers, AMR \|\n\|[-|]+\n((?:\|.*\n)+)", page)[1].splitlines()
    sections = re.findall(r"### Table 1\n\n((?:\|.*\n)+)", results)[:2]  # encoders trained jointly, and with teachers
    jointly, with_teachers = ([row.split(" | ") for row in section.splitlines()[2:]] for section in sections)
    found = [
        f"{joint[0]} | {joint[2]} | {joint[5]} | {taught[2]} | {taught[5]} |"
        for joint, taught in zip(jointly, with_teachers, strict=True)
    ]
    assert rows == found[: len(rows)]  # the paper's methods come first
    assert [row.split(" | ")[0] for row in rows[2:]] == [f"| {name}" for name in TABLE_1[1:]]


# Checks that run over whole registries: they must also hold for the examples in CONTRIBUTING.md.
REGISTRY_TESTS = (
    "tests/data_manifests/test_datasets.py",
    "tests/fusion/attribution/test_registry.py",
    "tests/fusion/evaluate/measures/test_registry.py",
    "tests/fusion/heads/test_base.py",
    "tests/fusion/report/sections/test_registry.py",
)
EXAMPLES = "mean or occlusion or entropy or f1 or pets or every_dataset"


def test_the_examples_for_contributors_run_and_pass_the_checks_of_their_registries(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 7
    used = f"""
import sys
from pathlib import Path
from typing import Any
import numpy as np
import pytest
from amr.data_manifests.datasets import build_manifest
from amr.fusion.heads import HeadShape, heads
from amr.fusion.methods import methods
from amr.fusion.run_axis.seeds import Draws

head = heads["mean"](HeadShape({{"audio": 3, "video": 2}}, 4), Draws([0, 1]))
z = {{"audio": torch.zeros(2, 5, 3), "video": torch.zeros(2, 5, 2)}}
assert head(z, torch.ones(2, 5, 2, dtype=torch.bool)).shape == (2, 5, 4)
assert methods["label-smoothing"].Options().smoothing == 0.1
encoder = Loudness()
(embedding,) = encoder.embed([encoder.prepare(np.ones(16000, np.float32))])
assert embedding.shape == (10,) and embedding.allclose(torch.ones(10))
manifest, report = build_manifest("pets", Path("."))
assert report.missing == {{"audio": ["a", "b"]}}
files = [str(Path({str(ROOT)!r}) / name) for name in {REGISTRY_TESTS!r}]
options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "--rootdir", {str(ROOT)!r}, "-k", {EXAMPLES!r}]
sys.exit(pytest.main([*options, *files]))
"""
    code = "\n".join([*blocks, used])
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.parametrize(
    "linter", [["check", "--no-cache"], ["format", "--check", "--no-cache"]], ids=lambda args: args[0]
)
def test_the_examples_for_contributors_pass_the_linters_as_files(tmp_path, linter):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)
    for i, block in enumerate(blocks):
        (tmp_path / f"example_{i}.py").write_text(block, encoding="utf-8")
    command = [sys.executable, "-m", "ruff", *linter, "--config", str(ROOT / "pyproject.toml"), "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("example", range(3))
def test_the_examples_of_an_audit_run(example, tmp_path, monkeypatch):
    monkeypatch.setenv("AMR_HOME", str(tmp_path))
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "audit.md").read_text(encoding="utf-8"), re.DOTALL)
    found: dict[str, Any] = {}
    exec(blocks[example], found)
    names = set(found["result"].table["measure"])
    assert {"share", "use", "use share"} <= names
    assert ({"MAE", "Pearson"} if example == 2 else {"accuracy", "follows under conflict", "ECE"}) <= names
    assert ("alone" in names) == (example != 1)
    assert (tmp_path / "runs" / "listening" / "evaluation.json").is_file() == (example == 0)


def test_the_examples_of_training_loops_run_and_reach_their_ratio():
    if importlib.util.find_spec("accelerate") is None:
        without("accelerate", "pip install accelerate")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "loops.md").read_text(encoding="utf-8"), re.DOTALL)
    found: dict[str, Any] = {}
    for block in blocks:
        exec(block, found)
    assert len(blocks) == 3
    plain, lightning, trainer = (found["regularizer"], found["balance"].regularizer, found["trainer"].regularizer)
    for each in (plain, lightning, trainer):
        assert all(abs(float(share) - 0.5) < 0.1 for share in each.share.values())
    last = found["trainer"].state.log_history[-2]
    assert last["amr/share_text"] + last["amr/share_image"] == pytest.approx(1, abs=1e-3)
    assert last["loss"] < found["trainer"].state.log_history[0]["loss"]


def test_the_python_of_the_readme_runs(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    render(SyntheticConfig(num_clips=60), tmp_path / "data/synthetic")

    def function() -> None:
        exec("\n".join(blocks), {"__name__": "__main__"})

    ended = run_child(function, 300, folder=tmp_path, env={"AMR_HOME": str(tmp_path)})
    assert ended.code == 0, ended.stderr
    assert "class-00" in ended.stdout
