"""The floors of the house: no module imports from a floor above its own, and no two modules import each other."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("common", "console", "data_manifests", "extract", "fusion")
MAX_MODULES = 10
# Rooms with one file per entry of a registry, or per method as `balance`, hold as many files as there are entries.
REGISTRIES = ("extract/encoders/families", "fusion/balance", "fusion/heads", "fusion/methods")
REGISTRIES += ("fusion/evaluate/measures", "fusion/loggers", "fusion/report/sections")

# From the ground up. Rooms of one floor do not import each other.
FLOORS = (
    ("common",),
    ("data_manifests",),
    ("extract.shards.shard",),
    ("extract.config", "extract.arrays", "extract.media", "extract.text", "extract.cache"),
    ("extract.encoders", "extract.imports"),
    ("extract.pipeline", "extract.imports"),
    ("extract.shards", "extract.request"),
    ("extract.run", "extract.import_embeddings", "extract.named_clips"),
    ("fusion.choices", "fusion.run_axis", "fusion.prediction", "fusion.recipes"),
    ("fusion.tasks",),
    ("fusion.attribution",),
    ("fusion.balance",),
    ("fusion.loggers",),
    ("fusion.config",),
    ("fusion.swept",),
    ("fusion.heads",),
    ("fusion.data",),
    ("fusion.model",),
    ("fusion.methods", "fusion.runs"),
    ("fusion.train",),
    ("fusion.resolve",),
    ("fusion.fit", "fusion.classifier", "fusion.loops", "fusion.end_to_end", "fusion.predict"),
    ("fusion.sweep", "fusion.evaluate"),
    ("fusion.frontier", "fusion.audit"),
    ("fusion.explain",),
    ("fusion.report",),
    ("fusion.demo",),
    ("console",),
    ("cli",),
)


def sources() -> dict[str, Path]:
    """Module name, such as `fusion.heads.concat`, to its file."""
    files = [ROOT / "cli.py", *(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


SOURCES = sources()


def imported(file: Path) -> set[str]:
    """The project's modules that a file imports, at its head or inside functions; not for type hints alone."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    hints = {id(n) for block in ast.walk(tree) if _is_type_checking(block) for n in ast.walk(block)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in hints:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            modules = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name.removeprefix("amr.") in SOURCES else node.module for name in modules}
    return {name.removeprefix("amr.") for name in found if name.startswith("amr.")}


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


GRAPH = {name: imported(file) & SOURCES.keys() for name, file in SOURCES.items()}


def floor(name: str) -> tuple[int, str] | None:
    """The floor and the room of a module; None for the packages that hold rooms."""
    for level, rooms in enumerate(FLOORS):
        for room in rooms:
            if name == room or name.startswith(f"{room}."):
                return level, room
    return None


def test_every_module_has_a_floor():
    holders = {"extract", "fusion"}
    assert {name for name in SOURCES if floor(name) is None} == holders


def test_no_import_goes_upwards():
    wrong = []
    for name, others in GRAPH.items():
        for other in sorted(others):
            here, there = floor(name), floor(other)
            if here is not None and there is not None and here[1] != there[1] and there[0] >= here[0]:
                wrong.append(f"{name} imports {other}")
    assert wrong == []


def test_extract_does_not_know_fusion_and_only_the_command_line_knows_the_console():
    assert not [
        n for n, others in GRAPH.items() if n.startswith("extract") and any(o.startswith("fusion") for o in others)
    ]
    users = {name for name, others in GRAPH.items() if any(other.startswith("console") for other in others)}
    assert {name for name in users if not name.startswith("console")} <= {"cli"}


def test_no_circle():
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in GRAPH[name]:
                visit(other, (*path, name))
            done.add(name)

    for name in GRAPH:
        visit(name, ())


@pytest.mark.parametrize("folder", sorted({str(f.parent.relative_to(ROOT)) for f in SOURCES.values()} - {"."}))
def test_a_folder_has_at_most_ten_modules(folder):
    modules = [file for file in (ROOT / folder).glob("*.py") if file.name != "__init__.py"]
    assert len(modules) <= MAX_MODULES or folder in REGISTRIES
