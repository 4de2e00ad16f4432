from __future__ import annotations

import json

import pandas as pd

from amr.common.files import write_csv, write_json

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
