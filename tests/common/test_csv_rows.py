import csv
import os

import pytest

from amr.common.csv_rows import check_header, check_text, read_csv_rows


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('a , b\n " x , y " ,2\n', [["a", "b"], [" x , y ", "2"]]),
        ("path, label\na.wav ,x \n", [["path", "label"], ["a.wav", "x"]]),
        ('5" disk , "q , ""t""" \n', [['5" disk', 'q , "t"']]),
        ("\ufeffa,b\r\n\r\n 1,2 \r\n", [["a", "b"], [], ["1", "2"]]),
        ('a,"\n b \n",c\r1,2,3', [["a", "\n b \n", "c"], ["1", "2", "3"]]),
        ("two words,\t\n", [["two words", ""]]),
        ("   ", []),
        ("", []),
    ],
)
def test_blanks_around_unquoted_values_are_no_part_of_them(tmp_path, text, rows):
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    assert read_csv_rows(path)[0] == rows


def test_lines_are_those_of_the_file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('a , b\n"x\ny",2\n\n3,4\n')
    assert read_csv_rows(path)[1] == [1, 2, 4, 5]


def test_fields_of_any_length_are_read_and_the_limit_of_others_stays(tmp_path):
    path, before = tmp_path / "a.csv", csv.field_size_limit()
    blanks, words = " " * 200_000, "w " * 200_000
    path.write_text(f'x{blanks}y,"{words}"\n')
    assert read_csv_rows(path)[0] == [[f"x{blanks}y", words]]
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'a,b\n"x,1\n', "a.csv must be a CSV file, got .* starts on line 2. Close its quotes"),
        ("é".encode("latin-1"), r"a.csv must be UTF-8 text, got another encoding \(byte 0xe9\)"),
    ],
)
def test_wrong_files_are_refused(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_csv_rows(path)


def test_a_header_of_a_million_columns_is_checked_at_once():
    with pytest.raises(ValueError, match=r"a\.csv must have at most 10,000 columns, got 1,000,000\. Leave out"):
        check_header([f"c{i}" for i in range(10**6)], "a.csv")
    with pytest.raises(ValueError, match="'c7' more than once"):
        check_header([*(f"c{i}" for i in range(9_000)), "c7"], "a.csv")


def test_text_that_no_file_can_hold_is_refused():
    check_text(["", "ä", "\x1b", os.fsdecode(b"\xff")], "id", str)
    for wrong, what in (("a\0b", "NUL"), ("\ud800", "half of a character")):
        with pytest.raises(ValueError, match=f"id must be text .*, got {what} in .* on row 1. Correct that value"):
            check_text(["a", wrong], "id", lambda row: f"row {row}")


def test_a_file_that_memory_cannot_hold_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("a,b\n" * 10_000)
    monkeypatch.setattr("amr.common.files.memory.memory_at_hand", lambda: 2**20)
    with pytest.raises(ValueError, match=r"a\.csv must fit into the 1\.0 MiB of memory at hand, got 1\.4 MiB"):
        read_csv_rows(tmp_path / "a.csv")
