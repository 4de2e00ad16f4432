from __future__ import annotations

import pandas as pd

from amr.common.files import write_csv

NAMES = ["=1+1", "@SUM(A1)", "+x", "-1", "\tx", "a\rb", "a\nb", "a\r\nb", 'a "b", c', " x ", "", "\x1b[31m", "\u202ex"]


def test_tables_keep_every_name_as_it_is(tmp_path):
    """Programs read them back; SECURITY.md says what spreadsheets make of formulas."""
    table = pd.DataFrame({"=id": NAMES, "x": 0.5})
    write_csv(tmp_path / "a.csv", table)
    read = pd.read_csv(tmp_path / "a.csv", dtype={"=id": str}, keep_default_na=False)
    pd.testing.assert_frame_equal(read, table, check_dtype=False)
