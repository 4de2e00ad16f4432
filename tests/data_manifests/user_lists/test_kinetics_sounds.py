from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.video import MViT_V2_S_Weights

from amr.data_manifests.user_lists import kinetics_sounds
from amr.fusion.data.splits import split_rows

HEADER = "label,youtube_id,time_start,time_end,split,is_cc\n"
TRAIN = (
    '"playing drums",-abcdefghij,0,10,train,0\n'
    "abseiling,AAAAAAAAAAA,5,15,train,0\n"
    '"chopping wood",BBBBBBBBBBB,58,68,train,1\n'
    "bowling,CCCCCCCCCCC,100,110,train,0\n"
)
VAL = "bowling,DDDDDDDDDDD,1,11,val,0\n"
TEST = "tickling,EEEEEEEEEEE,2,12,test,0\n"
IDS = {
    "EEEEEEEEEEE_000002_000012": "test",
    "DDDDDDDDDDD_000001_000011": "val",
    "-abcdefghij_000000_000010": "train",
    "BBBBBBBBBBB_000058_000068": "train",
    "CCCCCCCCCCC_000100_000110": "train",
}


@pytest.fixture
def lists(tmp_path):
    def write(train=HEADER + TRAIN, val=HEADER + VAL, test=HEADER + TEST, folder="annotations"):
        (tmp_path / folder).mkdir(exist_ok=True)
        for name, text in (("train.csv", train), ("val.csv", val), ("test.csv", test)):
            if text is not None:
                (tmp_path / folder / name).write_text(text)
        return tmp_path

    return write


def test_the_31_classes_are_classes_of_kinetics_400():
    """By the list of Kinetics-400 that torchvision has."""
    assert len(kinetics_sounds.CLASSES) == 31
    assert set(kinetics_sounds.CLASSES) <= set(MViT_V2_S_Weights.KINETICS400_V1.meta["categories"])
    assert list(kinetics_sounds.CLASSES) == sorted(kinetics_sounds.CLASSES)


@pytest.mark.parametrize("folder", [".", "annotations"])
def test_the_clips_of_the_classes_have_their_official_split(lists, folder):
    table = kinetics_sounds.build(lists(folder=folder))[0].table
    assert table.set_index("id")["split"].to_dict() == IDS
    assert table["label"].tolist() == ["tickling", "bowling", "playing drums", "chopping wood", "bowling"]
    assert table["group"].tolist() == [clip[:11] for clip in IDS]
    assert table["split_test-on-val"].tolist() == ["", "test", "train", "train", "train"]


@pytest.mark.parametrize("test", [None, "youtube_id,time_start,time_end,split\nEEEEEEEEEEE,2,12,test\n"])
def test_without_labelled_test_clips_another_policy_tests_on_val(lists, test):
    manifest, report = kinetics_sounds.build(lists(test=test))
    assert manifest.table["split"].value_counts().to_dict() == {"train": 3, "val": 1}
    note = next(note for note in manifest.notes if note.startswith("no test clips: test.csv with labels"))
    assert "amr fit --split-policy test-on-val" in note
    assert note in report.notes
    target = manifest.table["label"].astype("category").cat.codes.to_numpy()
    (splits,) = split_rows(manifest.table, target, target >= 0, policy="test-on-val")
    assert manifest.table["split"].iloc[splits.test].tolist() == ["val"]
    assert (len(splits.train), len(splits.val)) == (2, 1)


@pytest.mark.parametrize(
    "name", ["train/{c}.mp4", "train/bowling/{v}_{s}_{e}.mp4", "x/{v}_{s:06d}.mkv", "{v}_{s}.webm", "a/{v}.mp4"]
)
def test_files_are_found_under_the_names_in_use(lists, name):
    root = lists()
    file = name.format(c="CCCCCCCCCCC_000100_000110", v="CCCCCCCCCCC", s=100, e=110)
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_bytes(b"media")
    (root / "AAAAAAAAAAA_000005_000015.mp4").write_bytes(b"media")  # of another class
    manifest, report = kinetics_sounds.build(str(root))
    assert manifest.table.set_index("id").loc["CCCCCCCCCCC_000100_000110", "video_path"] == file
    assert report.found == {"audio": 1, "video": 1}
    notes = "\n".join(report.notes)
    assert "left out: AAAAAAAAAAA_000005_000015.mp4." in notes
    assert "train: 1 of 3 clips found (33.3%)" in notes


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace(",is_cc", "").replace(",0\n", "\n").replace(",1\n", "\n"),
        lambda text: text.replace(",val,", ",validate,"),
        lambda text: text.replace("playing drums", "playing_drums").replace("10,train", "10.0,train"),
        lambda text: "\n" + text.replace("label", "Label") + "\n\n",
    ],
)
def test_the_variants_of_the_lists_are_the_same(lists, change):
    expected = kinetics_sounds.build(lists())[0].table
    again = kinetics_sounds.build(lists(*(change(HEADER + rows) for rows in (TRAIN, VAL, TEST))))[0].table
    assert again.equals(expected)


def test_the_order_of_the_columns_is_free(lists):
    expected = kinetics_sounds.build(lists())[0].table
    val = "split,time_end,time_start,youtube_id,label\nval,11,1,DDDDDDDDDDD,bowling\n"
    assert kinetics_sounds.build(lists(val=val))[0].table.equals(expected)


def test_repeated_clips_and_absent_classes_are_named(lists):
    train = HEADER + TRAIN + 2 * "singing,FFFFFFFFFFF,0,10,train,0\n" + "bowling,DDDDDDDDDDD,1,11,train,0\n"
    manifest, report = kinetics_sounds.build(lists(train))
    assert manifest.table["split"].value_counts().to_dict() == {"train": 4, "val": 1, "test": 1}
    notes = "\n".join(report.notes)
    assert "train.csv: 1 row left out, repeated in this list: FFFFFFFFFFF_000000_000010." in notes
    assert "train.csv: 1 row left out, which a list with another split has, too: DDDDDDDDDDD_000001_000011." in notes
    assert "26 classes have no clip in the lists (blowing nose, " in notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"train\.csv must have the columns label, youtube_id, time_start, time_end, got an empty file without"),
        (TRAIN, r"train\.csv must have the columns .* without label, youtube_id, time_start, time_end\. Take the list"),
        (
            "label,youtube_id\nbowling,CCCCCCCCCCC\n",
            r"got label, youtube_id without time_start, time_end\. .*train\.csv",
        ),
        (HEADER + "bowling,CCCCCCCCCCC,1\n", r"line 2 of train\.csv must have 6 values, got 3"),
        (HEADER + "bowling,short,1,11,train,0\n", r"line 2 of train\.csv must have a video id .* youtube_id='short'"),
        (HEADER + "bowling,CCCCCCCCCCC,one,11,train,0\n", r"two times in seconds, got .* time_start='one'"),
        (HEADER + "bowling,CCCCCCCCCCC,1,11,val,0\n", r"split must be train, got 'val' on line 2 of train\.csv"),
        (HEADER + "abseiling,CCCCCCCCCCC,1,11,train,0\n", r"train\.csv must list clips of the 31 classes .* got none"),
        (HEADER + '"bowling,CCCCCCCCCCC,1,11,train,0\n', r"train\.csv must be a CSV file.*Close its quotes"),
    ],
)
def test_wrong_lists_are_refused(lists, text, message):
    with pytest.raises(ValueError, match=message):
        kinetics_sounds.build(lists(text))


def test_missing_lists_name_their_source(lists):
    root = lists(val=None)
    with pytest.raises(FileNotFoundError, match=r"annotations' without val\.csv\. Get them from https://s3.amazonaws"):
        kinetics_sounds.build(root)


@given(st.lists(st.text(st.sampled_from(',"\r\n bowlingA0.-\ufeff'), max_size=30), max_size=4))
def test_any_text_is_read_or_refused_as_wrong(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("kinetics") / "train.csv"
    path.write_text(HEADER + "\n".join(rows), newline="")
    with suppress(ValueError):  # a traceback for any other error
        kinetics_sounds.read_list(path, "train")
