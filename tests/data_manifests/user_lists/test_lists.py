import pandas as pd
import pytest

from amr.data_manifests.user_lists.lists import (
    each_once,
    leave_out,
    list_folder,
    notes_on_counts,
    read_lines,
    refuse_empty,
)

NAMES = ["a.txt", "b.txt"]


def rows(*values: tuple[str, str]) -> pd.DataFrame:
    return pd.DataFrame(values, columns=["list", "id"], dtype=str)


@pytest.mark.parametrize("place", [".", "lists", "z"])
def test_lists_are_found_in_the_root_or_in_a_folder_in_it(tmp_path, place):
    for folder in (".hidden", "empty", place):
        (tmp_path / folder).mkdir(exist_ok=True)
    for name in NAMES:
        (tmp_path / place / name).touch()
        (tmp_path / ".hidden" / name).touch()
    (tmp_path / "empty" / "a.txt").touch()
    assert list_folder(str(tmp_path), NAMES, "home") == tmp_path / place


def test_the_root_goes_before_a_folder_in_it(tmp_path):
    (tmp_path / "copy").mkdir()
    for folder in (tmp_path, tmp_path / "copy"):
        for name in NAMES:
            (folder / name).touch()
    assert list_folder(tmp_path, NAMES, "home") == tmp_path


def test_missing_lists_are_named_where_the_others_are(tmp_path):
    (tmp_path / "lists").mkdir()
    with pytest.raises(FileNotFoundError, match=r"got '.*/test_missing\w+' with none of them\. Get them from home"):
        list_folder(tmp_path, NAMES, "home")
    (tmp_path / "lists" / "a.txt").touch()
    (tmp_path / "lists" / "b.txt").mkdir()  # no file
    with pytest.raises(FileNotFoundError, match=r"got '.*/lists' without b\.txt\. Get them from home, or pass --root"):
        list_folder(tmp_path, NAMES, "home")


def test_lines_of_any_system_are_read(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\r\n\r\n  two \rthree\n\n".encode())
    assert read_lines(path) == [(1, "one"), (3, "two"), (4, "three")]
    path.write_bytes("café".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.txt must be UTF-8 text"):
        read_lines(path)


def test_rows_left_out_are_named_by_list():
    notes: list[str] = []
    table = rows(("a.txt", "x"), ("b.txt", "y"), ("b.txt", "z"))
    kept = leave_out(table, table["id"] != "x", "of no class", notes)
    assert kept["id"].tolist() == ["x"]
    assert notes == ["b.txt: 2 rows left out, of no class: y, z."]


def test_a_row_in_two_lists_belongs_to_the_first():
    notes: list[str] = []
    table = rows(("test", "x"), ("test", "x"), ("train", "x"), ("train", "y"), ("train", "y"))
    kept = each_once(table, ["id"], notes)
    assert kept.to_numpy().tolist() == [["test", "x"], ["train", "y"]]
    assert notes == [
        "test: 1 row left out, repeated in this list: x.",
        "train: 1 row left out, repeated in this list: y.",
        "train: 1 row left out, which a list with another split has, too: x.",
    ]


def test_an_empty_list_is_refused_with_the_reason():
    notes = ["train: 3 rows left out, of no class: x.", "test: 1 row left out, of no class: y."]
    refuse_empty(rows(("train", "x")), ["train"], "clips", notes)
    with pytest.raises(ValueError, match=r"^train must list clips, got 3 rows left out, of no class: x\. Take the"):
        refuse_empty(rows(("test", "x")), ["test", "train"], "clips", notes)
    with pytest.raises(ValueError, match=r"^val must list clips, got none\. Take the official list\.$"):
        refuse_empty(rows(("test", "x")), ["val"], "clips", notes)


def test_other_counts_than_the_official_ones_are_named():
    table = rows(("train", "x"), ("train", "y"), ("test", "z"))
    assert notes_on_counts(table, {"train": 2, "test": 1}) == []
    (note,) = notes_on_counts(table, {"train": 2, "test": 2000})
    assert note.endswith("results do not compare: test 1 of 2,000 clips.")
