"""docs/methods.md: a row for each method that is registered, and an example that runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from amr.common.options import number_text
from amr.fusion.methods import methods
from amr.fusion.recipes.published import Published, read_recipes

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "methods.md").read_text(encoding="utf-8")


def test_every_method_has_a_row():
    table = PAGE.partition("## Left out")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert [name for row in rows for name in re.findall(r"`([^`]+)`", row)] == list(methods)


def recipe_row(recipe: Published) -> str:
    """Row of the table of recipes."""
    of = recipe.settings
    optimizer = [str(of["optimizer"]), number_text(of["lr"])]
    optimizer += [f"momentum {number_text(of['momentum'])}"] if "momentum" in of else []
    optimizer += [f"decay {number_text(of['weight_decay'])}"] if "weight_decay" in of else []
    steps = "-" if "lr_step" not in of else f"{of['lr_step']}, by {of['lr_factor']:g}" if of["lr_step"] else "never"
    options = " ".join(f"`{text}`" for text in of["method_option"])
    cells = [
        f"`{recipe.name}`",
        f"`{recipe.method}`",
        ", ".join(optimizer),
        steps,
        of["batch_size"],
        of.get("epochs", "-"),
    ]
    return f"| {' | '.join(map(str, cells))} | {options} |"


def test_the_table_of_recipes_is_that_of_the_file():
    section = PAGE.partition("## Recipes")[2].partition("\n## ")[0]
    _, *rows = [line for line in section.splitlines() if line.startswith("| ")]
    assert rows == [recipe_row(recipe) for recipe in read_recipes().values()]


def test_the_example_runs():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["out"].shape == (2, 5, 3)
    assert all(layer.weight.grad.abs().sum() > 0 for layer in (names["audio"], names["video"], names["classifier"]))
