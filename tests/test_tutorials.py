"""The executed pages: what they show is what is printed, and the check of that can fail."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SPEC = importlib.util.spec_from_file_location("run_tutorials", ROOT / "docs/tutorials/run.py")
assert SPEC is not None
assert SPEC.loader is not None
pages = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = pages
SPEC.loader.exec_module(pages)

TUTORIALS = {"own-clips", "own-embeddings", "is-my-model-listening", "balance-use", "train-encoders", "cluster"}


def test_every_tutorial_is_executed():
    assert {page.stem for page in pages.executed_pages()} >= TUTORIALS | {"quickstart"}


@pytest.mark.parametrize("page", pages.executed_pages(), ids=lambda page: page.stem)
def test_a_page_shows_what_is_printed(page):
    _, differences = pages.run_page(page)
    assert not differences, "\n".join(["make tutorials writes the pages anew", *map(str, differences)])


PAGE = """Text.

```console
$ echo 0.5 clips
{echo}$ echo 'seconds: 3.1'
seconds: 9.9
```

```python
print("one", 2)
```
{python}
```bash
exit 1
```
"""
PRINTED = {"echo": "0.5 clips\n\n", "python": "\n```text\none 2\n```\n"}


def test_what_is_printed_is_written_once(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE.format(echo="", python=""))
    written, differences = pages.run_page(page)
    assert [each.printed for each in differences] == ["0.5 clips\n", "one 2\n"]
    assert written == PAGE.format(**PRINTED).replace("9.9", "3.1")
    page.write_text(written)
    assert pages.run_page(page) == (written, [])


@pytest.mark.parametrize(
    "wrong",
    [{"echo": "0.3 clips\n\n"}, {"echo": "0.5 clip\n\n"}, {"python": "\n```text\none 3\n```\n"}, {"python": ""}],
)
def test_a_page_that_shows_something_else_is_found(tmp_path, wrong):
    page = tmp_path / "page.md"
    page.write_text(PAGE.format(**PRINTED | wrong))
    assert len(pages.run_page(page)[1]) == 1


@pytest.mark.parametrize("command", ["false", "amr fit --cache nowhere"])
def test_a_command_that_fails_is_an_error(tmp_path, command):
    page = tmp_path / "page.md"
    page.write_text(f"```console\n$ {command}\n```\n")
    here = Path.cwd()
    with pytest.raises(RuntimeError, match=command):
        pages.run_page(page)
    assert Path.cwd() == here


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a  0.50\nb 0.10", "b 0.12\na 0.41", True),  # rows in another order, numbers within .1
        ("a 0.50", "a 0.39", False),
        ("a +0.30*", "a +0.35", True),
        ("5 clips", "6 clips", False),
        ("110.0 s", "120.0 s", True),  # a tenth of larger numbers
        ("110.0 s", "130.0 s", False),
        ("clips/00003.mp4", "clips/00004.mp4", False),
        ("a 1:4", "a 1:1", False),
        ("one", "one\ntwo", False),
    ],
)
def test_outputs_are_compared_up_to_rounding(shown, printed, same):
    assert pages.agree(shown, printed) == same
