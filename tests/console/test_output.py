"""Tables on terminals of any width."""

import json
from io import StringIO

import pytest
from rich.console import Console

from amr.console.output import fitting, lines, say, show, table
from amr.console.progress import BarProgress, LineProgress

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


def test_what_is_empty_is_a_dash():
    assert lines({"splits": {}, "notes": [], "root": None, "rows": 0}) == "splits: -\nnotes: -\nroot: -\nrows: 0"


HOSTILE = "[laughter] x[/b] :smile: \x1b[31m\x9b1m\x07\r\u202e"
SHOWN = r"[laughter] x[/b] :smile: \x1b[31m\x9b1m\x07\r\u202e"


def test_names_are_shown_as_they_are_and_controls_escaped(capsys):
    show(None, False, lambda: table(HOSTILE, ["a", HOSTILE], [[HOSTILE, f"{HOSTILE}\n"]]))
    show(None, False, lambda: lines({HOSTILE: [HOSTILE, {HOSTILE: HOSTILE}]}))
    say(f"{HOSTILE}\nx")
    out, err = capsys.readouterr()
    assert err == SHOWN + r"\nx" + "\n"
    assert out.splitlines()[0].strip() == SHOWN
    assert out.count(SHOWN) == 8
    assert SHOWN + r"\n" in out


def test_progress_shows_them_so_too():
    for terminal in (False, True):
        console = Console(file=StringIO(), force_terminal=terminal, width=200)
        progress = BarProgress(console) if terminal else LineProgress(console.file)
        progress.start(2)
        progress.note(HOSTILE)
        progress.stop()
        assert SHOWN in console.file.getvalue()


def test_json_keeps_them_by_its_own_escapes(capsys):
    show({HOSTILE: [HOSTILE]}, True, lambda: "")
    out = capsys.readouterr().out
    assert json.loads(out) == {HOSTILE: [HOSTILE]}
    assert not set("\x1b\x9b\u202e") & {*out}
