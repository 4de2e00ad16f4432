"""No function of a training step copies to the host: the source of the rooms below is read, case by case."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "fusion"
ROOMS = ("attribution", "heads", "methods", "run_axis")
FILES = sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))
FILES += [ROOT / "model.py", ROOT / "train" / "step.py", ROOT / "train" / "embedding_noise.py"]
COPIES = ("cpu", "item", "tolist", "numpy", "nonzero")
REDUCTIONS = ("all", "any", "max", "min", "sum", "mean", "equal", "allclose")
# functions that no step calls
OUTSIDE = {
    "model.py": ("run_mean", "run_state"),  # saving
    "methods/dnr.py": ("_purities",),  # between epochs
    "run_axis/seeds.py": ("load", "shuffles"),  # streams, which are on the CPU
    "attribution/any_head/inputs.py": ("presence", "clip_numbers", "check_values"),  # checks of a caller's tensors
}


def host_copies(tree: ast.AST, allowed: tuple[str, ...] = ()) -> list[str]:
    """Calls that wait for values, as text; not those in the functions that are allowed."""
    found = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef) and node.name in allowed:
            continue
        if isinstance(node, ast.Call) and _copies(node):
            found.append(ast.unparse(node))
        if isinstance(node, ast.If | ast.While | ast.IfExp | ast.Assert) and _reduces(node.test):
            found.append(f"if {ast.unparse(node.test)}")
        found += host_copies(node, allowed)
    return found


def _copies(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr in COPIES and not call.args
    to_number = isinstance(call.func, ast.Name) and call.func.id in ("bool", "float", "int")
    return to_number and len(call.args) == 1 and _reduces(call.args[0])


def _reduces(node: ast.AST) -> bool:
    """Whether an expression is a tensor's reduction, which becomes a number of Python."""
    if isinstance(node, ast.UnaryOp):
        return _reduces(node.operand)
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in REDUCTIONS


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_steps_copy_nothing_to_the_host(file):
    allowed = OUTSIDE.get(file.relative_to(ROOT).as_posix(), ())
    assert host_copies(ast.parse(file.read_text(encoding="utf-8")), allowed) == []


@pytest.mark.parametrize(
    "line",
    [
        *("x.cpu()", "y = x.sum().item()", "bool((x > 0).all())", "x.tolist()", "f(x.numpy())", "if x.any(): pass"),
        *("z = 1 if not mask.all() else 2", "float(x.mean())", "while loss.max(): pass", "x.nonzero()"),
        "assert x.all()",
    ],
)
def test_the_lint_finds(line):
    assert host_copies(ast.parse(f"def step(x):\n    {line}"))
    assert not host_copies(ast.parse(f"def step(x):\n    {line}"), ("step",))


@pytest.mark.parametrize(
    "line", ["float(weight)", "x.float().sum()", "if x.ndim == 3: pass", "bool(flag)", "max(1, n)"]
)
def test_the_lint_leaves(line):
    assert not host_copies(ast.parse(line))
