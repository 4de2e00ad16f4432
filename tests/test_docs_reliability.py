"""docs/reliability.md: each promise names a test. The table of `make torture`, once it is there, has lost nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .torture.__main__ import COLUMNS, MODULES

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
NO_TABLE = "<!-- table -->"


def rows(head: str, page: str = PAGE) -> list[list[str]]:
    """Rows of the table whose first column has this name, without its head."""
    lines = page[re.search(rf"^\| {head} +\|", page, re.MULTILINE).start() :].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def faults(page: str) -> list[str]:
    """What is wrong with the table of `make torture` on a page."""
    if not re.search(rf"^\| {' +[|] +'.join(COLUMNS)} +\|$", page, re.MULTILINE):
        return ["other columns"]
    *kinds, total = [dict(zip(COLUMNS, row, strict=False)) for row in rows("kind", page)]
    wrong = [f"lost: {row['kind']}" for row in [*kinds, total] if row["lost"] != "0"]
    wrong += [f"lost: {row['kind']}" for row in kinds if row["survived"] != row["tries"]]
    wrong += [f"not tried: {row['kind']}" for row in kinds if row["tries"] == "0"]
    sums = {name: str(sum(int(row[name]) for row in kinds)) for name in ("tries", "survived")}
    wrong += [f"the total of {name} is {total[name]}, not {each}" for name, each in sums.items() if total[name] != each]
    return wrong + ([f"{len(kinds)} rows of {len(MODULES)} modules"] if len(kinds) < len(MODULES) else [])


@pytest.mark.parametrize(("promise", "held_by"), rows("promise"))
def test_each_promise_names_a_test_that_exists(promise, held_by):
    names = re.findall(r"tests/[\w/]+\.py", held_by)
    assert names, promise
    for name in names:
        assert "\ndef test_" in (ROOT / name).read_text(encoding="utf-8"), name


@pytest.mark.skipif(NO_TABLE in PAGE, reason="docs/reliability.md has no table yet; make torture prints it")
def test_the_table_has_lost_nothing():
    assert faults(PAGE) == []


def printed(*rows: tuple[str, int, int, int]) -> str:
    """A page with a table of these rows and their total."""
    total = ("total", *(sum(row[i] for row in rows) for i in (1, 2, 3)))
    lines = [[*map(str, row), "1", "1 MiB", "note"] for row in (*rows, total)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (COLUMNS, ["---"] * len(COLUMNS), *lines)) + "\n\nrest"


def test_faults_of_a_table_are_seen():
    good = [(f"kind {number}", 9, 9, 0) for number in range(len(MODULES))]
    assert faults(printed(*good)) == []
    assert faults(printed(*good[1:], ("odd", 9, 8, 1))) == ["lost: odd", "lost: total", "lost: odd"]
    assert faults(printed(*good[1:], ("odd", 0, 0, 0))) == ["not tried: odd"]
    assert faults(printed(*good[1:])) == [f"{len(good) - 1} rows of {len(good)} modules"]
    assert faults(printed(*good).replace("| total | ", "| total | 1")) != []
    assert faults(printed(*good).replace("| lost |", "| found |")) == ["other columns"]
