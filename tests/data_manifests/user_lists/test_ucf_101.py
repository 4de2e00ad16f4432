from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amr.data_manifests.user_lists import ucf_101
from amr.fusion.data.splits import split_rows

CLASSES = "1 Archery\r\n2 HandstandPushups\r\n3 YoYo\r\n"


def lines(name, groups, number="", folder=None):
    return "".join(
        f"{folder or name}/v_{name}_g{group:02d}_c{clip:02d}.avi{number}\n" for group in groups for clip in (1, 2)
    )


def official(test_groups):
    """Train and test list of groups 1 to 25 of two classes, as the official ones divide them."""
    groups = [group for group in range(1, 26) if group not in test_groups]
    train = lines("Archery", groups, " 1") + lines("HandStandPushups", groups, " 2", "HandstandPushups")
    test = lines("Archery", test_groups) + lines("HandStandPushups", test_groups, folder="HandstandPushups")
    return train.replace("\n", "\r\n"), test


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "ucfTrainTestlist"
    folder.mkdir()
    (folder / "classInd.txt").write_bytes(CLASSES.encode())
    for number, groups in ((1, range(1, 8)), (2, range(8, 15)), (3, range(15, 22))):
        train, test = official(groups)
        (folder / f"trainlist{number:02d}.txt").write_bytes(train.encode())
        (folder / f"testlist{number:02d}.txt").write_bytes(test.encode())
    return tmp_path


def test_official_splits_with_the_same_groups_as_val(root):
    table = ucf_101.build(root)[0].table
    number = table["group"].str[-2:].astype(int)
    for column, test in (("split", range(1, 8)), ("split_2", range(8, 15)), ("split_3", range(15, 22))):
        assert set(number[table[column] == "test"]) == set(test)
        assert set(number[table[column] == "val"]) == {24, 25}
        assert set(number[table[column] == "train"]) == {*range(1, 24)} - {*test}
    assert table.loc[0, ["id", "label", "group"]].tolist() == ["v_Archery_g01_c01", "Archery", "Archery_g01"]
    assert len(table) == table["id"].nunique() == 100


@pytest.mark.parametrize("options", [{}, {"policy": "3"}, {"folds": 5}])
def test_no_group_is_divided(root, options):
    table = ucf_101.build(root)[0].table
    target = table["label"].eq("Archery").to_numpy(int)
    for splits in split_rows(table, target, target >= 0, **options):
        groups = [set(table["group"].iloc[rows]) for rows in (splits.train, splits.val, splits.test)]
        assert all(groups)
        assert len(set.union(*groups)) == sum(map(len, groups)) == 50
        assert splits.notes == ()


def test_classes_without_sound_are_left_out_of_one_label(root):
    table, report = ucf_101.build(root)[0].table, ucf_101.build(root)[1]
    assert set(table["sound_label"]) == {"Archery", "HandstandPushups"}
    assert not any("no sound" in note for note in report.notes)
    for name in ("trainlist01.txt", "testlist01.txt"):
        with (root / "ucfTrainTestlist" / name).open("a") as file:
            file.write(lines("YoYo", [1, 2] if name.startswith("test") else [10, 24]))
    manifest, report = ucf_101.build(root)
    assert manifest.table.query("label == 'YoYo'")["sound_label"].tolist() == [""] * 8
    assert manifest.table.query("label == 'YoYo'")["split_2"].tolist() == [""] * 8
    assert any("1 of the 3 classes have no sound" in note and "--label sound_label" in note for note in report.notes)


def test_51_classes_have_sound():
    """UCF-101's classes less those of UCF50, whose clips lost their sound."""
    assert len(set(ucf_101.CLASSES_WITH_SOUND)) == 51
    assert not {"YoYo", "Biking", "PlayingGuitar", "TaiChi"} & set(ucf_101.CLASSES_WITH_SOUND)


def test_files_are_found_whatever_the_case_of_their_name(root):
    media = root / "UCF-101" / "HandstandPushups"
    media.mkdir(parents=True)
    (media / "v_HandstandPushups_g01_c01.avi").write_bytes(b"media")
    (media / "v_HandStandPushups_g01_c02.avi").write_bytes(b"media")
    (media / "v_Other_g01_c02.avi").write_bytes(b"media")
    report = ucf_101.build(str(root))[1]
    assert report.found == {"audio": 2, "video": 2}
    assert any("left out: UCF-101/HandstandPushups/v_Other_g01_c02.avi." in note for note in report.notes)


def test_splits_2_and_3_and_the_classes_may_be_absent(root):
    folder = root / "ucfTrainTestlist"
    expected = ucf_101.build(root)[0].table
    for name in ("classInd.txt", "testlist02.txt", "trainlist03.txt"):
        (folder / name).unlink()
    table = ucf_101.build(root)[0].table
    assert table.equals(expected.drop(columns=["split_2", "split_3"]))


def test_lists_without_extensions_and_with_backslashes_are_the_same(root):
    expected = ucf_101.build(root)[0].table
    for path in (root / "ucfTrainTestlist").glob("t*.txt"):
        path.write_text("\ufeff" + path.read_text().replace(".avi", "").replace("/", "\\") + "\n")
    assert ucf_101.build(root)[0].table.equals(expected)


def test_unknown_classes_and_clips_of_both_lists_are_left_out_and_named(root):
    folder = root / "ucfTrainTestlist"
    with (folder / "trainlist01.txt").open("a") as file:
        file.write(lines("Archery", [1], " 1") + lines("Dancing", [9], " 4") + lines("Archery", [9], " 1"))
    manifest, report = ucf_101.build(root)
    assert manifest.table["split"].value_counts().to_dict() == {"train": 64, "test": 28, "val": 8}
    notes = "\n".join(report.notes)
    assert (
        "trainlist01.txt: 2 rows left out, of no class in classInd.txt: v_Dancing_g09_c01, v_Dancing_g09_c02." in notes
    )
    assert "trainlist01.txt: 2 rows left out, repeated in this list: v_Archery_g09_c01, v_Archery_g09_c02." in notes
    assert "trainlist01.txt: 2 rows left out, which a list with another split has, too: v_Archery_g01_c01" in notes
    assert "testlist01.txt 28 of 3,783, trainlist01.txt 72 of 9,537 clips" in notes
    assert set(manifest.notes) <= set(report.notes)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "trainlist01.txt",
            "Archery v_Archery_g08_c01.avi 1",
            r"line 1 of trainlist01\.txt must be like Archery/v_Arch",
        ),
        ("trainlist01.txt", "Archery/Archery_g08_c01.avi 1", "line 1 of trainlist01.txt must be like"),
        ("testlist01.txt", "\nArchery/v_Archery_c01.avi", "line 2 of testlist01.txt must be like"),
        ("testlist03.txt", "Archery/v_Archery_g01_c01.avi one", "line 1 of testlist03.txt must be like"),
        ("trainlist02.txt", "", r"trainlist02\.txt must list clips of known classes, got none"),
        ("classInd.txt", "Archery", r"line 1 of classInd\.txt must be a class number and a name, got 'Archery'"),
    ],
)
def test_wrong_lists_are_refused(root, name, text, message):
    (root / "ucfTrainTestlist" / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        ucf_101.build(root)


def test_missing_lists_name_their_source(root):
    (root / "ucfTrainTestlist" / "testlist01.txt").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"ucfTrainTestlist' without testlist01\.txt\. Get them from UCF101Train"
    ):
        ucf_101.build(root)


@given(st.text(st.sampled_from("/\\v_gc01. \r\n\ufeffA"), max_size=60))
def test_any_text_is_read_or_refused_as_wrong(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("ucf") / "trainlist01.txt"
    path.write_text(text)
    with suppress(ValueError):  # a traceback for any other error
        ucf_101.read_list(path)
