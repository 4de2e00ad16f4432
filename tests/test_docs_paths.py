"""Paths and dotted names in documents exist. What is gone may be named as "formerly `...`"."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from pkgutil import resolve_name

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
FOLDERS = "benchmarks|common|console|data_manifests|docs|extract|fusion|tests"
PATH = re.compile(rf"(?<![\w./$-])(?:{FOLDERS})/[\w./-]*[\w/]")
NAME = re.compile(r"(?<![\w./-])amr(?:\.[A-Za-z_]\w*)+")


def prose(path: Path) -> str:
    """The text without blocks of code, which run as they are or show files that a reader adds."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"formerly\s+`[^`]*`", "", text)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_paths_exist(document):
    missing = {path for path in PATH.findall(prose(document)) if not (ROOT / path).exists()}
    assert missing == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_dotted_names_exist(document):
    missing = set()
    for name in set(NAME.findall(prose(document))):
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message="amr", category=DeprecationWarning)  # a former path
                resolve_name(name)
        except (ImportError, AttributeError, DeprecationWarning):
            missing.add(name)
    assert missing == set()


def test_what_is_gone_is_found(tmp_path):
    file = tmp_path / "page.md"
    file.write_text("`fusion/quadratic.py`, formerly `fusion/stacked.py`, `amr.fusion.nothing`, `amr.fit`")
    assert PATH.findall(prose(file)) == ["fusion/quadratic.py"]
    assert NAME.findall(prose(file)) == ["amr.fusion.nothing", "amr.fit"]
