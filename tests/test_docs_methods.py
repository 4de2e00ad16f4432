"""docs/methods.md: a row for each method that is registered, and an example that runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from amr.fusion.methods import methods

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "methods.md").read_text(encoding="utf-8")


def test_every_method_has_a_row():
    table = PAGE.partition("## Left out")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert [name for row in rows for name in re.findall(r"`([^`]+)`", row)] == list(methods)


def test_the_example_runs():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["out"].shape == (2, 5, 3)
    assert all(layer.weight.grad.abs().sum() > 0 for layer in (names["audio"], names["video"], names["classifier"]))
