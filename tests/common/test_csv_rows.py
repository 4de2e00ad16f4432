import csv

import pytest

from amr.common.csv_rows import read_csv_rows


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
