from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from amr.extract.arrays import Expected, parse_array_spec, read_rows, tables

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


def outcome(path: Path | str) -> str:
    """What is read of a file, or the sentence that refuses it."""
    try:
        rows = read(path)
    except ValueError as error:
        return str(error)
    return f"{np.asarray(rows.values).tolist()} {rows.ids} {rows.header} {rows.column} {rows.left_out}"


@settings(max_examples=150, deadline=None)
@given(
    header=st.lists(st.sampled_from(["a", "b", "id", " c ", "label", "x_path", "", "1"]), min_size=1, max_size=4),
    body=st.lists(st.sampled_from([*'01.-en,,,  \t\n\n\r"', "1,2", "nan,3", "c0"]), max_size=20).map("".join),
)
@example(header=["a", "b"], body="1,2\n3,\n\n")
@example(header=["id", "a"], body=" 007 ,2\r\nc, 1\r")
def test_numbers_read_in_blocks_are_those_of_the_whole_text(tmp_path_factory, header, body):
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    path.write_bytes((",".join(header) + "\n" + body).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_BLOCK_VALUES", 3)
        in_blocks = outcome(path)
        patch.setattr(tables, "_plain_numbers", lambda spec, expected: None)
        assert in_blocks == outcome(path)


def test_numbers_of_a_parquet_file_read_in_blocks_are_those_of_the_whole_table(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    ids = [f"c{i}" for i in range(50)]
    floats = pd.DataFrame(rng.normal(size=(50, 3)).astype(np.float32), columns=["a", "b", "c"])
    nullable = pd.array([None if i == 40 else i for i in range(50)], dtype="Int64")
    files = {
        "floats": floats,
        "ids": floats.assign(id=ids),
        "named index": floats.set_index(pd.Index(ids, name="id")),
        "numbered index": floats.set_index(pd.RangeIndex(50, name="id")),
        "unnamed index": floats.set_index(pd.Index(ids)),
        "absent late": floats.assign(b=nullable),
        "columns are numbers": pd.DataFrame(floats.to_numpy()),
        "vectors": pd.DataFrame({"v": list(floats.to_numpy())}),
        "an absent vector": pd.DataFrame({"v": [*floats.to_numpy()[:49], None]}),
        "sequences": pd.DataFrame({"v": [rng.normal(size=(1 + i % 3, 2)).tolist() for i in range(50)]}),
        "text late": floats.astype(object).assign(c=[*map(str, range(49)), "x"]),
        "nothing": floats[:0],
    }
    monkeypatch.setattr(tables, "_BLOCK_VALUES", 21)
    for name, table in files.items():
        table.to_parquet(tmp_path / "x.parquet")
        in_blocks = outcome(tmp_path / "x.parquet")
        with monkeypatch.context() as patch:
            patch.setattr(tables, "_read_in_blocks", lambda file, spec, names: None)
            assert in_blocks == outcome(tmp_path / "x.parquet"), name


def test_too_many_columns_of_a_parquet_file_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MAX_COLUMNS", 3)
    write(tmp_path / "x.parquet", pd.DataFrame(np.zeros((1, 4)), columns=list("abcd")))
    with pytest.raises(ValueError, match=r"x\.parquet must be a readable .* got 4 columns, more than 3: save"):
        read(tmp_path / "x.parquet")


@pytest.mark.parametrize("suffix", ["csv", "csv of vectors", "parquet"])
def test_a_repeated_column_is_refused(tmp_path, suffix):
    path = tmp_path / f"x.{suffix.split()[0]}"
    if suffix == "parquet":
        numbers = pyarrow.array([1.0, 2.0])
        parquet.write_table(pyarrow.table([numbers, numbers, numbers], names=["f0", "f1", "f0"]), path)
    else:
        cell = '"[1, 2]"' if suffix == "csv of vectors" else "1"
        path.write_text(f"f0,f1,f0\n{cell},{cell},{cell}\n")
    for key in ("", ":f0", ":f*"):
        with pytest.raises(ValueError, match=r"must name every column once, got 'f0' more than once\. Rename one\."):
            read(f"{path}{key}")


@pytest.mark.parametrize("text", ["a,b\n1,1_0\n", 'a,b\n1,2\n3,"1_0"\n', "1,1_0\n2,2_0\n", "a\n1_0\n2\n"])
def test_numbers_with_underscores_are_text(tmp_path, text):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(ValueError, match="must hold numbers"):
        read(tmp_path / "x.csv:b" if text.startswith("a,b") else tmp_path / "x.csv")
