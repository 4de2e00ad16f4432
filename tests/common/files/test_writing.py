from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from amr.common.files import replacing, write_csv, write_json

NAMES = ["=1+1", "@SUM(A1)", "+x", "-1", "\tx", "a\rb", "a\nb", "a\r\nb", 'a "b", c', " x ", "", "\x1b[31m", "\u202ex"]


def test_tables_keep_every_name_as_it_is(tmp_path):
    """Programs read them back; SECURITY.md says what spreadsheets make of formulas."""
    table = pd.DataFrame({"=id": NAMES, "x": 0.5})
    write_csv(tmp_path / "a.csv", table)
    read = pd.read_csv(tmp_path / "a.csv", dtype={"=id": str}, keep_default_na=False)
    pd.testing.assert_frame_equal(read, table, check_dtype=False)


def test_bytes_of_a_name_that_are_no_utf8_are_escaped_as_in_json(tmp_path):
    name = b"b\xff.mp4".decode("utf-8", "surrogateescape")
    write_json(tmp_path / "x.json", {"id": name})
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"id": name}
    write_csv(tmp_path / "x.csv", pd.DataFrame({"id": [name]}, dtype=object))
    assert (tmp_path / "x.csv").read_text(encoding="utf-8") == "id\nb\\udcff.mp4\n"


def test_writers_of_one_file_take_turns(tmp_path):
    """Each writes to the same unfinished file, by a library that opens it by its name."""
    file = tmp_path / "x.txt"
    contents = {f"{letter * 1000}\n" for letter in "abcd"}

    def write(content: str) -> None:
        for _ in range(50):
            with replacing(file) as partial, partial.open("w") as text:
                for letter in content:
                    text.write(letter)
                    text.flush()
            assert file.read_text() in contents

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(write, content) for content in contents]:
            done.result()
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]


def test_a_writer_that_fails_leaves_nothing_and_takes_nothing_from_the_next(tmp_path):
    file = tmp_path / "x.txt"

    def fail() -> None:
        with replacing(file) as partial:
            partial.write_text("half")
            raise FileNotFoundError("of its own")

    with pytest.raises(FileNotFoundError, match="of its own"):
        fail()
    assert list(tmp_path.iterdir()) == []
    with replacing(file) as partial:
        partial.write_text("whole")
    assert file.read_text() == "whole"
