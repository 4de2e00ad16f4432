from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amr.data_manifests.user_lists import ave

HEADER = "Category&VideoID&Quality&StartTime&EndTime\n"
TRAIN = (
    "Church bell&RUhOCu3LNXM&good&0&10\n"
    "Baby cry, infant cry&-bbbbbbbbbb&good&2&7\n"
    "Ukulele&ccccccccccc&good&0&10\n"
    "Banjo&ccccccccccc&good&0&10\n"
    "Fixed-wing aircraft, airplane&_dddddddddd&good&0&10\n"
)
VAL = "Helicopter&_dddddddddd&good&0&10\nFrying (food)&eeeeeeeeeee&good&0&0\n"
TEST = "Mandolin&ccccccccccc&good&0&10\n"


@pytest.fixture
def lists(tmp_path):
    def write(train=TRAIN, val=VAL, test=TEST, folder="."):
        (tmp_path / folder).mkdir(exist_ok=True)
        for name, text in (("trainSet.txt", train), ("valSet.txt", val), ("testSet.txt", test)):
            (tmp_path / folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return tmp_path

    return write


def test_each_row_is_a_clip_with_its_official_split(lists):
    manifest, report = ave.build(lists())
    table = manifest.table.set_index("id")
    assert table["split"].to_dict() == {
        "ccccccccccc": "test",
        "_dddddddddd": "val",
        "eeeeeeeeeee": "val",
        "RUhOCu3LNXM": "train",
        "-bbbbbbbbbb": "train",
        "ccccccccccc_2": "train",
        "ccccccccccc_3": "train",
        "_dddddddddd_2": "train",
    }
    assert table.loc["-bbbbbbbbbb", ["label", "event_start_seconds", "event_end_seconds"]].tolist() == [
        "Baby cry, infant cry",
        "2",
        "7",
    ]
    assert report.clips == 8
    assert sorted(report.classes) == sorted(ave.CLASSES)


def test_the_rows_of_a_video_are_a_group_and_share_their_labels(lists):
    table = ave.build(lists())[0].table
    of_video = table[table["group"] == "ccccccccccc"]
    assert of_video["label"].tolist() == ["Mandolin", "Ukulele", "Banjo"]
    assert set(of_video["labels"]) == {"Mandolin;Ukulele;Banjo"}
    assert table["labels"].str.split(";").explode().isin(ave.CLASSES).all()


def test_split_video_keeps_videos_apart_and_test_whole(lists):
    manifest, report = ave.build(lists())
    table = manifest.table
    in_split = table[table["split_video"] != ""]
    assert in_split.groupby("group")["split_video"].nunique().max() == 1
    assert sorted(set(table["id"]) - set(in_split["id"])) == ["_dddddddddd_2", "ccccccccccc_2", "ccccccccccc_3"]
    note = next(note for note in report.notes if "more than one of train, val and test" in note)
    assert "2 of 5 groups" in note
    assert "amr fit --split-policy video" in note


def test_files_are_those_of_the_video(lists):
    root = lists(folder="AVE_Dataset")
    (root / "AVE_Dataset" / "AVE").mkdir()
    for name in ("ccccccccccc.mp4", "-bbbbbbbbbb.mp4", "unknown.mp4"):
        (root / "AVE_Dataset" / "AVE" / name).write_bytes(b"media")
    manifest, report = ave.build(str(root))
    paths = manifest.table.set_index("id")["video_path"]
    assert paths["ccccccccccc"] == paths["ccccccccccc_2"] == "AVE_Dataset/AVE/ccccccccccc.mp4"
    assert report.found == {"audio": 4, "video": 4}
    assert any("in no list, left out: AVE_Dataset/AVE/unknown.mp4." in note for note in report.notes)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: HEADER + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: b"\xef\xbb\xbf" + (HEADER + text).encode(),
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.replace("&", " & ") + "\n\n",
        lambda text: text.replace("&10\n", "&10.0\n").rstrip(),
    ],
)
def test_headers_line_ends_and_blanks_change_nothing(lists, change):
    expected = ave.build(lists())[0].table.drop(columns="event_end_seconds")
    again = ave.build(lists(change(TRAIN), change(VAL), change(TEST)))[0].table
    assert again.drop(columns="event_end_seconds").equals(expected)


def test_unknown_classes_and_repeated_rows_are_left_out_and_named(lists):
    train = TRAIN + "church bell&fffffffffff&good&0&10\n" + "Ukulele&ccccccccccc&good&0&10\n"
    manifest, report = ave.build(lists(train, test=TEST + "Ukulele&ccccccccccc&good&0&10\n"))
    table = manifest.table
    assert table["split"].value_counts().to_dict() == {"train": 4, "test": 2, "val": 2}
    notes = "\n".join(report.notes)
    assert "trainSet.txt: 1 row left out, of none of AVE's 28 classes: fffffffffff." in notes
    assert "trainSet.txt: 1 row left out, repeated in this list: ccccccccccc." in notes
    assert "trainSet.txt: 1 row left out, which a list with another split has, too: ccccccccccc." in notes
    assert "testSet.txt 2 of 402, valSet.txt 2 of 402, trainSet.txt 4 of 3,339 clips" in notes
    assert set(manifest.notes) <= set(report.notes)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "Ukulele,ccccccccccc,good,0,10",
            r"line 1 of trainSet\.txt must be Category&VideoID&Quality&StartTime&EndTime",
        ),
        ("Ukulele&ccccccccccc&good&0", "line 1 of trainSet.txt must be"),
        ("Ukulele&short&good&0&10", r"got 'Ukulele&short&good&0&10'\. Take the official list\."),
        ("Ukulele&ccccccccccc&good&0&-1", "line 1 of trainSet.txt must be"),
        ("&ccccccccccc&good&0&10", "line 1 of trainSet.txt must be"),
        ("", r"trainSet\.txt must list clips of AVE's 28 classes, got none\. Take"),
        ("Moon&ccccccccccc&good&0&10", "must list clips of AVE's 28 classes, got 1 row left out, of none of AVE's 28"),
        ("caf\xe9".encode("latin-1"), "trainSet.txt must be UTF-8 text"),
    ],
)
def test_wrong_lists_are_refused(lists, line, message):
    with pytest.raises(ValueError, match=message):
        ave.build(lists(line))


def test_a_list_given_twice_is_refused(lists):
    with pytest.raises(ValueError, match=r"trainSet\.txt must list .* got 2 rows left out, which a list with another"):
        ave.build(lists(train=VAL))


def test_missing_lists_and_folders_name_their_source(lists, tmp_path):
    root = lists()
    (root / "valSet.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"without valSet\.txt\. Get them from .*https://github.com/YapengTian"):
        ave.build(root)
    with pytest.raises(FileNotFoundError, match=r"Get them from https://github.com/YapengTian/AVE-ECCV18"):
        ave.build(tmp_path / "nowhere")


@given(st.text(st.sampled_from("&\r\n Bark0aA-\ufeff\u2028"), max_size=60))
def test_any_text_is_read_or_refused_as_wrong(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("ave") / "trainSet.txt"
    path.write_text(text)
    with suppress(ValueError):  # a traceback for any other error
        ave.read_list(path)
