from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from amr.extract.arrays import Expected, parse_array_spec, read_rows

ROWS = np.arange(12, dtype=np.float64).reshape(6, 2) / 8


def read(path: Path | str, **expected: object):
    return read_rows(parse_array_spec(str(path), "--x"), Expected(**expected))


def write(path: Path, table: pd.DataFrame) -> Path:
    table.to_csv(path, index=False) if path.suffix == ".csv" else table.to_parquet(path)
    return path


def test_headers_of_csv(tmp_path):
    path = tmp_path / "x.csv"
    for header in ("0,1\n", "a,b\n", ""):  # column numbers as pandas writes them, names, no header
        path.write_text(header + "7,8\n9,10\n")
        assert read(path).values.tolist() == [[7, 8], [9, 10]]
    for header in (",a\n", ",0\n"):
        path.write_text(header + "0,8\n1,10\n")
        if header == ",a\n":
            with pytest.raises(ValueError, match="a column without a name"):
                read(path)
    path.write_text(",0,1\n0,8,9\n1,10,11\n")
    with pytest.raises(ValueError, match="a column without a name"):
        read(path)
    path.write_text("1,2\n3,x\n")
    with pytest.raises(ValueError, match=r"must hold numbers, got text in column 2\. Leave out that column, or write"):
        read(path)
    path.write_text("1,2\n3\n")
    with pytest.raises(ValueError, match="1 values on line 2, 2 on the first line"):
        read(path)


def test_absent_numbers_of_a_csv_are_nan(tmp_path):
    for text in ("a,b\n1,2\n,\n", "1,2\n,\n", ",\n1,2\n"):
        (tmp_path / "x.csv").write_text(text)
        assert sorted(np.isnan(read(tmp_path / "x.csv").values).all(1)) == [False, True]


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_table_with_id_label_and_features(tmp_path, name):
    frame = pd.DataFrame(ROWS, columns=["f0", "f1"])
    frame.insert(0, "id", [f"c{i}" for i in range(6)])
    frame["label"] = list("ababab")
    path = write(tmp_path / name, frame)
    rows = read(path)
    np.testing.assert_array_equal(rows.values, ROWS)
    assert (rows.ids, rows.left_out) == (tuple(frame["id"]), ("id", "label"))
    for text, expected in (("f*", ROWS), ("f1+f0", ROWS[:, ::-1]), ("f0", ROWS[:, :1])):
        np.testing.assert_array_equal(read(f"{path}:{text}").values, expected)
    assert read(f"{path}:f*:4").ids == ("c0", "c1", "c2", "c3")
    for text in (path, f"{path}:label"):
        rows = read(text, column="label")
        assert (rows.values.tolist(), rows.ids) == (list("ababab"), tuple(frame["id"]))
    rows = read(path, column="id")
    assert (rows.values.tolist(), rows.ids) == (list(frame["id"]), None)
    with pytest.raises(ValueError, match=r"key of t\.\w+ must be one of id, f0, f1, label, got 'g\*'"):
        read(f"{path}:g*")


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_columns_of_text_are_named_with_what_to_type(tmp_path, name):
    frame = pd.DataFrame({"name": ["a", "b"], "speaker": ["x", "y"], "mfcc1": [1.0, 2], "mfcc2": [3.0, 4]})
    with pytest.raises(ValueError, match=rf"got text in name, speaker\. Pass '{name}:mfcc\*' for the columns"):
        read(write(tmp_path / name, frame))
    with pytest.raises(ValueError, match=rf"got text in name\. Name the columns of features, such as {name}:mfcc1\+pi"):
        read(write(tmp_path / name, frame[["name", "mfcc1"]].assign(pitch=[1, 2])))


@pytest.mark.parametrize(
    ("content", "num_rows", "expected", "header"),
    [
        ("cat\ndog\ncat\n", 3, ["cat", "dog", "cat"], None),  # as many lines as clips: no header
        ("emotion\ncat\ndog\n", 2, ["cat", "dog"], "emotion"),
        ("label\ncat\ndog\n", 3, ["cat", "dog"], "label"),  # names the column
        ("y\n0\n1\n", 3, ["0", "1"], "y"),  # a word above numbers
        ("0\n1\n2\n", 2, ["0", "1", "2"], None),
        ("cat\n\ndog\n", 3, ["cat", "", "dog"], None),  # a blank line is an empty value
        ("label\n\ncat\n\n", 3, ["", "cat", ""], "label"),
        ("cat\ndog\n\n\n", 2, ["cat", "dog"], None),  # but not at the end beyond the clips
        ("cat\ndog\n\n\n", 3, ["cat", "dog", ""], None),
        ("cat\n\n", None, [""], "cat"),
    ],
)
def test_csv_of_one_column(tmp_path, content, num_rows, expected, header):
    (tmp_path / "labels.csv").write_text(content)
    rows = read(tmp_path / "labels.csv", column="label", num_rows=num_rows)
    assert (rows.values.tolist(), rows.header) == (expected, header)
    assert rows.first_value == (expected[0] if header is None else None)


def test_ids_are_no_header(tmp_path):
    (tmp_path / "ids.csv").write_text("c0\nc1\n")
    assert read(tmp_path / "ids.csv", column="id", ids={"c0"}).values.tolist() == ["c0", "c1"]
    (tmp_path / "ids.txt").write_text("c0\nc1\n\n\n")
    assert read(tmp_path / "ids.txt", column="id", num_rows=2).values.tolist() == ["c0", "c1"]
    assert read(tmp_path / "ids.txt", column="id").values.tolist() == ["c0", "c1", "", ""]


def test_other_separators_are_refused(tmp_path):
    (tmp_path / "labels.csv").write_text("id;label\nc0;cat\n")
    with pytest.raises(ValueError, match=r"must be separated by commas, got semicolons\. Save it with commas"):
        read(tmp_path / "labels.csv", column="label")


def test_blanks_after_commas(tmp_path):
    (tmp_path / "t.csv").write_text("frame, x_0, x_1 , label\n1, 0.5, 0.25 , cat\n")
    assert read(f"{tmp_path}/t.csv:x_*").values.tolist() == [[0.5, 0.25]]
    assert read(f"{tmp_path}/t.csv", column="label").values.tolist() == ["cat"]


def test_vectors_as_text_of_any_length(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(3, 9000))
    frame = pd.DataFrame({"id": list("abc"), "embedding": [str(vector.tolist()) for vector in vectors]})
    path = write(tmp_path / "x.csv", frame)
    np.testing.assert_array_equal(read(f"{path}:embedding").values, vectors)
    frame["embedding"] = ["[1.0 2.0 ... 3.0]"] * 3  # as pandas prints a long array
    with pytest.raises(ValueError, match=r"got text in embedding\. Name a column of numbers, or save .* as \.npy"):
        read(write(path, frame))
    frame["embedding"] = ["[1, 2]", "", "[1]"]
    with pytest.raises(
        ValueError, match=r"x\.csv:embedding must hold vectors of one .*\(2,\) in row 0 and \(1,\) in row 2"
    ):
        read(write(path, frame))


@pytest.mark.parametrize("absent", [0, 5])
@pytest.mark.parametrize("kind", ["null", "empty"])
def test_vectors_of_parquet_may_be_absent(tmp_path, absent, kind):
    vectors = [(None if kind == "null" else []) if i == absent else row for i, row in enumerate(ROWS)]
    path = write(tmp_path / "x.parquet", pd.DataFrame({"id": range(6), "e": vectors}))
    expected = ROWS.copy()
    expected[absent] = np.nan
    for text in (path, f"{path}:e"):
        np.testing.assert_array_equal(read(text).values, expected)


def test_vectors_of_different_lengths_name_file_column_and_row(tmp_path):
    frame = pd.DataFrame({"e": [row[:1] if i == 4 else row for i, row in enumerate(ROWS)]})
    path = write(tmp_path / "x.parquet", frame)
    with pytest.raises(
        ValueError, match=r"x\.parquet:e must hold vectors of one length.*\(2,\) in row 0 and \(1,\) in row 4"
    ):
        read(path)


def test_sequences_of_parquet_are_padded(tmp_path):
    path = write(tmp_path / "x.parquet", pd.DataFrame({"e": [[[1.0, 2.0]], [[1.0, 2.0], [3.0, 4.0]]]}))
    rows = read(path).values
    assert rows.shape == (2, 2, 2)
    assert np.isnan(rows[0, 1]).all()


def test_ids_are_written_as_people_write_them(tmp_path):
    frame = pd.DataFrame({"id": [1.0, 2.0], "f": [0.5, 0.25]})
    assert read(f"{write(tmp_path / 'x.parquet', frame)}:f").ids == ("1", "2")
    (tmp_path / "x.csv").write_text("ID,f\n007,1\nNA,2\n")
    assert read(f"{tmp_path}/x.csv:f").ids == ("007", "NA")


def test_absent_values_and_a_named_index_of_parquet(tmp_path):
    frame = pd.DataFrame({"f": pd.array([1, None, 3], dtype="Int64"), "label": ["a", None, "b"]})
    frame.index = pd.Index(["x", "y", "z"], name="id")
    frame.to_parquet(tmp_path / "x.parquet")
    rows = read(f"{tmp_path}/x.parquet:f")
    assert rows.ids == ("x", "y", "z")
    np.testing.assert_array_equal(rows.values, [[1], [np.nan], [3]])
