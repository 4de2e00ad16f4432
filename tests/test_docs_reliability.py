"""docs/reliability.md: each promise names a test; its table has the columns of `make torture`, and nothing is lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")


def rows(head: str) -> list[list[str]]:
    """Rows of the table whose first column has this name, without its head."""
    lines = PAGE[re.search(rf"^\| {head} +\|", PAGE, re.MULTILINE).start() :].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize(("promise", "held_by"), rows("promise"))
def test_each_promise_names_a_test_that_exists(promise, held_by):
    names = re.findall(r"tests/[\w/]+\.py", held_by)
    assert names, promise
    for name in names:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "\ndef test_" in text or "\ndef run(" in text, name
