"""Tables on terminals of any width."""

from io import StringIO

import pytest
from rich.console import Console

from amr.console.output import fitting, table

COLUMNS = ["setting", "seeds", "val accuracy", "test accuracy", "share audio/video"]
ROWS = [["naive, AMR audio=1:video=1", 5, 0.75, 0.5, "0.50/0.50"], ["ume", 5, None, 0.25, "-"]]


def printed(width):
    console = Console(width=width, file=StringIO())
    for part in fitting(table("test", COLUMNS, ROWS), width):
        console.print(part)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [45, 60, 80, 200])
def test_no_heading_and_no_value_is_broken(width):
    text = printed(width)
    assert max(map(len, text.splitlines())) <= width
    for whole in [*COLUMNS, "naive, AMR audio=1:video=1", "0.750", "0.50/0.50"]:
        assert whole in text


def test_the_first_column_is_in_every_part():
    assert printed(200).count("naive, AMR audio=1:video=1") == 1
    assert printed(60).count("naive, AMR audio=1:video=1") == 2
    assert printed(60).count("test\n") == printed(200).count("test\n")
