import csv
import os
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amr.data_manifests.coverage import report_on
from amr.data_manifests.manifest import _NORMAL, Manifest, existing_files, read_manifest, write_manifest
from amr.data_manifests.schema import check_classes


def write(folder: Path, text: str, name: str = "clips.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def test_defaults_fill_what_a_minimal_csv_leaves_out(tmp_path):
    manifest = read_manifest(write(tmp_path, "path,label\na/x y.mp4,dog\n-b.wav,cat\n"))
    assert manifest.dataset == "clips"
    assert manifest.root == tmp_path
    assert manifest.ids == ["x y", "-b"]
    assert list(manifest.table.columns) == ["id", "label", "split", "group", "path"]
    assert manifest.path(0, "audio") == manifest.path(0, "video") == tmp_path / "a/x y.mp4"
    assert manifest.interval(0) == (None, None)
    assert manifest.modalities == []


def test_one_path_per_modality_some_absent(tmp_path):
    text = "id,label,audio_path,video_path,path\n1,a,1.wav,,both.mp4\n2,b,,2.mp4,\n"
    manifest = read_manifest(write(tmp_path, text))
    assert manifest.modalities == ["audio", "video"]
    assert manifest.paths("audio") == [tmp_path / "1.wav", None]
    assert manifest.paths("video") == [None, tmp_path / "2.mp4"]
    assert manifest.path(0, "depth") == tmp_path / "both.mp4"


@pytest.mark.parametrize("clip", ["NA", "1e5", "007", "null", "True", "-x", "1_000", "inf", "1 2"])
def test_values_stay_the_text_they_are(tmp_path, clip):
    manifest = read_manifest(write(tmp_path, f"id,path,label,level\n{clip},x.mp4,{clip},{clip}\n"))
    assert manifest.table.loc[0, ["id", "label", "level"]].tolist() == [clip] * 3


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_bom_line_ends_and_blank_lines_do_not_matter(tmp_path, bom, end):
    plain = read_manifest(write(tmp_path, "path,label\na.mp4,x\nb.mp4,y\n"))
    other = read_manifest(write(tmp_path, bom + end.join(["path,label", "a.mp4,x", "", "b.mp4,y"])))
    assert plain.sha256() == other.sha256()


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@settings(max_examples=40, deadline=None)
@given(columns=st.lists(st.tuples(text, text), min_size=1, max_size=4))
def test_any_text_survives_writing_and_reading(tmp_path_factory, columns):
    folder = tmp_path_factory.mktemp("round")
    table = pd.DataFrame(
        {
            "id": [f"clip{row}" for row in range(len(columns))],
            "label": ["x"] * len(columns),
            "split": [""] * len(columns),
            "group": [group for group, _ in columns],
            "path": [f"{row}.mp4" for row in range(len(columns))],
            "note": [note for _, note in columns],
        },
        dtype=str,
    )
    manifest = Manifest("clips", folder, table)
    write_manifest(manifest, folder / "clips.csv")
    back = read_manifest(folder / "clips.csv")
    assert back.table.to_numpy().tolist() == table.to_numpy().tolist()
    assert back.sha256() == manifest.sha256()
    assert [path.name for path in folder.iterdir()] == ["clips.csv"]


@pytest.mark.parametrize(
    "text",
    [
        "path, label,split\na.mp4, x , train\n",
        "path\t,label ,split\na.mp4 ,x,train \n",
        'path,label,split\n"a.mp4" ,"x ",train',
    ],
)
def test_blanks_around_names_and_values_are_no_part_of_them(tmp_path, text):
    manifest = read_manifest(write(tmp_path, text))
    assert manifest.table[["path", "label", "split"]].values.tolist() == [["a.mp4", "x", "train"]]


def test_quoted_blanks_stay_except_around_labels(tmp_path):
    manifest = read_manifest(write(tmp_path, 'id,path,label,group\n" 1"," a.mp4 ",cat,g\n2,b.mp4,"cat ","g "\n'))
    assert manifest.table[["id", "path", "label", "group"]].values.tolist() == [
        [" 1", " a.mp4 ", "cat", "g"],
        ["2", "b.mp4", "cat", "g "],
    ]
    assert manifest.notes == ("label: blanks around 1 value are left out, such as in 'cat '",)


def test_long_fields_are_carried(tmp_path):
    transcript = "w " * 70000 + "end"
    manifest = read_manifest(write(tmp_path, f'path,label,transcript\na.wav,x,"{transcript}"\n'))
    assert manifest.value(0, "transcript") == transcript


def test_backslashes_separate_folders_unless_a_file_has_that_name(tmp_path):
    (tmp_path / "c\\d.wav").touch()
    manifest = read_manifest(write(tmp_path, "path,label\nclips\\a.wav,x\nc\\d.wav,y\n.\\e\\..\\f.wav,y\n"))
    assert manifest.table["path"].tolist() == ["clips/a.wav", "c\\d.wav", "f.wav"]
    assert manifest.ids == ["a", "c\\d", "f"]


def test_absolute_paths_need_no_root(tmp_path):
    manifest = read_manifest(write(tmp_path, "path,label\n/media/../data/b.mp4,x\n"))
    assert manifest.table["path"].tolist() == ["/data/b.mp4"]
    assert manifest.path(0, "audio") == Path("/data/b.mp4")
    write_manifest(manifest, tmp_path / "again.csv")
    assert read_manifest(tmp_path / "again.csv").table.equals(manifest.table)


def test_a_file_is_not_replaced_such_as_an_edited_manifest(tmp_path):
    manifest = read_manifest(write(tmp_path, "path,label\na.mp4,x\nb.mp4,y\n"))
    csv = tmp_path / "own.csv"
    for _ in range(2):
        write_manifest(manifest, csv)
        assert csv.read_text() == manifest.to_csv()
    for text in (manifest.to_csv().replace("y", "z"), "", "dear diary"):
        csv.write_text(text)
        with pytest.raises(ValueError, match=r"--out must be new or the same manifest, got .*own\.csv'\. Choose"):
            write_manifest(manifest, csv)
        assert csv.read_text() == text


def test_groups_on_both_sides_of_a_split_are_counted(tmp_path):
    rows = ["a.mp4,x,train,ann,train", "b.mp4,x,test,ann,train", "c.mp4,y,test,bob,test", "d.mp4,y,,bob,test"]
    csv = write(tmp_path, "\n".join(["path,label,split,group,split_person", *rows]))
    (note,) = read_manifest(csv).notes
    assert note.startswith("split: 1 of 2 groups has clips in more than one of train, val and test, such as 'ann';")
    assert note.endswith("amr fit --split-policy person or --folds 5 keeps groups together.")
    assert report_on(read_manifest(csv)).notes == (note,)
    csv = write(tmp_path, "path,label,split,group\na.mp4,x,train,ann\nb.mp4,x,test,ann\n")
    assert read_manifest(csv).notes[0].endswith("group. amr fit --folds 5 keeps groups together.")


def test_a_file_in_a_folder_that_may_not_be_entered_is_not_called_missing(tmp_path, monkeypatch):
    def denied(path, *args, **settings):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", denied)
        patch.setattr(Path, "exists", denied)
        assert existing_files([tmp_path / "a.wav"]) == {tmp_path / "a.wav"}


@pytest.fixture
def looks(monkeypatch) -> list[str]:
    """Calls that look at the disk: each folder that is listed, and each file that is asked for alone."""
    calls: list[str] = []
    scandir, exists = os.scandir, Path.exists
    monkeypatch.setattr(os, "scandir", lambda folder: calls.append(f"list {folder}") or scandir(folder))
    monkeypatch.setattr(Path, "exists", lambda path: calls.append(f"look {path}") or exists(path))
    return calls


def test_existing_files_are_found_by_listing_each_folder_once(tmp_path, looks):
    (tmp_path / "a.wav").touch()
    (tmp_path / "broken.wav").symlink_to(tmp_path / "absent")
    (tmp_path / "linked.wav").symlink_to(tmp_path / "a.wav")
    (tmp_path / "folder").mkdir()
    paths = [tmp_path / name for name in ("a.wav", "linked.wav", "folder", "broken.wav", "b.wav")]
    assert existing_files([*paths, None, tmp_path / "none" / "a.wav"]) == set(paths[:3])
    links = [f"look {tmp_path / name}" for name in ("broken.wav", "linked.wav")]
    assert sorted(looks) == [f"list {tmp_path}", f"list {tmp_path / 'none'}", *links]


def test_absent_folders_are_not_looked_for_one_by_one(tmp_path, looks):
    for number in range(2):
        (tmp_path / f"clip{number}").mkdir()
        (tmp_path / f"clip{number}" / "a.wav").touch()
    paths = [str(tmp_path / f"clip{number}" / "a.wav") for number in range(1000)]
    assert existing_files(paths) == set(paths[:2])
    assert sorted(looks) == [f"list {tmp_path}", f"list {tmp_path / 'clip0'}", f"list {tmp_path / 'clip1'}"]


def test_files_of_the_top_folder_are_found(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for name in ("a.wav", "folder/b.wav"):
        (tmp_path / name).touch()
    assert existing_files(["a.wav", "folder/b.wav", "c.wav", "none/a.wav"]) == {"a.wav", "folder/b.wav"}
    top = {f"/{name}" for name in os.listdir("/") if not os.path.islink(f"/{name}")}
    assert existing_files([*top, "/none/a.wav", "/none"]) == top


@given(st.lists(st.sampled_from(["a", "b.wav", "..c", "d..", "...", "é", "x:y", ".", "..", "", "a\\b"]), max_size=4))
def test_a_path_between_single_slashes_stays_as_it_is(names):
    value, root = "/".join(names), Path("/media/clips")
    if _NORMAL.fullmatch(value):
        assert Path(os.path.relpath(os.path.join(root, value), root)).as_posix() == value
        assert not {".", "..", "", "x:y", "a\\b"} & set(names)


def test_15446_absent_clips_cost_no_look_each(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda path: pytest.fail(f"looked for {path}"))
    assert existing_files(tmp_path / f"{i}.wav" for i in range(15446)) == set()


@pytest.mark.parametrize(
    ("values", "continuous"),
    [
        ([str(i / 7) for i in range(1, 61)], True),
        (["0.5", "1", "1.5", "2"] * 3, False),
        (["0.5", "1.5", "2.5", ""], True),
        ([str(i / 4) for i in range(30)] * 9, True),
        ([str(i) for i in range(309)], True),
        ([str(i) for i in range(309)] * 2, False),
        (["1.5", "cat", "nan"], False),
        ([], False),
    ],
)
def test_continuous_labels_are_no_classes(values, continuous):
    if not continuous:
        check_classes(values)
        return
    with pytest.raises(
        ValueError, match=r"--label must name a column of classes, got 'y' with \d+ .*--task regression"
    ):
        check_classes(values, "y")


def test_the_label_column_is_copied(tmp_path):
    csv = write(tmp_path, "path,label,emotion\na.mp4,old,ANG\n")
    manifest = read_manifest(csv, label_column="emotion")
    assert manifest.table.loc[0, ["label", "emotion", "original_label"]].tolist() == ["ANG", "ANG", "old"]


def test_unlabelled_clips_are_refused_by_name_or_kept(tmp_path):
    csv = write(tmp_path, "path,label\na.mp4,x\nb.mp4,\nc.mp4,  \n")
    with pytest.raises(ValueError, match=r"line 3 of clips.csv \(id 'b'\) and 1 more. Pass --allow-unlabelled"):
        read_manifest(csv)
    assert read_manifest(csv, allow_unlabelled=True).table["label"].tolist() == ["x", "", ""]
    without = write(tmp_path, "path\na.mp4\n", "without.csv")
    assert read_manifest(without, allow_unlabelled=True).table["label"].tolist() == [""]


def test_paths_are_made_relative_to_the_root(tmp_path):
    csv = write(tmp_path, f"id,path,label\n1,./a//b/../c.mp4,x\n2,{tmp_path}/d.mp4,x\n")
    manifest = read_manifest(csv)
    assert manifest.table["path"].tolist() == ["a/c.mp4", "d.mp4"]
    root = tmp_path / "media"
    assert read_manifest(write(tmp_path, "path,label\na.mp4,x\n"), root=root).path(0, "audio") == root / "a.mp4"


def test_other_splits_and_intervals(tmp_path):
    text = "path,label,split,split_actor,start_seconds,end_seconds\na.mp4,x,train,test,1.5,\nb.mp4,x,,,,2\n"
    manifest = read_manifest(write(tmp_path, text))
    assert [manifest.value(row, "split_actor") for row in range(2)] == ["test", ""]
    assert [manifest.interval(row) for row in range(2)] == [(1.5, None), (None, 2.0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\nd/a.mp4,x\nb.mp4,x\ne/a.wav,y\n", r"'a' on line 2 of clips.csv and again on line 4"),
        ("id,path,label\n,a.mp4,x\n", r"id must not be empty, got '' on line 2"),
        ("path,emotion\na.mp4,x\n", r"--label-column must be .*\(path, emotion\), got 'label'. Pass --label-column"),
        ("path,lable\na.mp4,x\n", r"Did you mean lable\?"),
        ("label,pth\nx,a.wav\n", r"must have a column path, or <modality>_path .*, got label, pth\. Add one"),
        ("path,label,split\na.mp4,x,trian\n", r"split must be one of .* got 'trian' on line 2 .*Did you mean train\?"),
        ("path,label,split\na.mp4,x,validation\n", r"Did you mean val\?"),
        ("path,label,split_b\na.mp4,x,7\n", r"split_b must be one of .* got '7' on line 2"),
        (
            "path,label\n../a.mp4,x\n",
            r"path must stay inside the root, got '../a.mp4' on line 2 of clips.csv \(id 'a'\)",
        ),
        ("id,path,label\n1,/,x\n", r"path must stay inside the root, got '/'"),
        ("path,label\nD:\\clips\\a.wav,x\n", r"path must be a path of this computer, got 'D:.*' on line 2.*with / bet"),
        ("id,path,label\n1,a/../../b,x\n", r"path must stay inside the root"),
        ("id,audio_path,label\n1,.,x\n", r"audio_path must stay inside the root"),
        (
            "path,label,start_seconds,end_seconds\na.mp4,x,3,2\n",
            r"end_seconds must be after .* got '2' with start '3' on line 2",
        ),
        ("path,label,end_seconds\na.mp4,x,0\n", r"end_seconds must be after .* got '0' with start '0'"),
        ("path,label,start_seconds\na.mp4,x,-1\n", r"start_seconds must be a number of seconds .* got '-1' on line 2"),
        ("path,label,start_seconds\na.mp4,x,nan\n", r"start_seconds must be a number"),
        (
            "path,label,end_seconds\na.mp4,x,1:30\n",
            r"end_seconds must be a number of seconds from 0 to 10,000,000, got '1:30'",
        ),
        ('path,label\n"a\nb.mp4",x\n\nc.mp4\n', r"line 5 of clips.csv must have 2 values like the header, got 1"),
        ("path,label\na,b.mp4,x\n", r"line 2 of clips.csv must have 2 values like the header, got 3"),
        ('path,label\n"a.mp4,x\n', r"must be a CSV file, got .* starts on line 2"),
        ("path;label\na.mp4;x\n", r"must be separated by commas"),
        (",path,label\n0,a.mp4,x\n", r"got no name for column 1"),
        ("path,label,label\na.mp4,x,y\n", r"'label' more than once"),
        ("path,label,start_seconds\na.mp4,x,1e13\n", r"from 0 to 10,000,000, got '1e13' on line 2"),
        ("path,label,end_seconds\na.mp4,x,1e305\n", r"from 0 to 10,000,000, got '1e305' on line 2"),
        ("path,label\na\0.mp4,x\n", r"path must be text without NUL .* on line 2"),
        ("path,label,note\na.mp4,x,\0\n", r"note must be text without NUL .* on line 2"),
        ("path,label,no\0te\na.mp4,x,\n", r"name of a column must be text without NUL .* on the first line"),
        ("path,label\n", r"must list at least one clip"),
        ("", r"must begin with a header"),
    ],
)
def test_errors_name_the_row(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_manifest(write(tmp_path, text))


def test_other_encodings_and_absent_files(tmp_path):
    csv = tmp_path / "clips.csv"
    csv.write_bytes("path,label\né.mp4,x\n".encode("latin-1"))
    with pytest.raises(ValueError, match="must be UTF-8"):
        read_manifest(csv)
    with pytest.raises(FileNotFoundError, match="must be an existing CSV file"):
        read_manifest(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("rows", "advice"),
    [
        (["v,v.mp4,dog", "v,v.mp4,cat"], "Join the labels of a clip with ; .* 'dog;cat'"),
        (["v,v.mp4,dog", "v,w.mp4,cat"], "Give each clip its own id"),
        (["v,v.mp4,dog", "v,v.mp4,dog"], "Give each clip its own id"),
    ],
)
def test_rows_of_one_clip_are_to_be_joined_and_two_clips_need_two_ids(tmp_path, rows, advice):
    (tmp_path / "clips.csv").write_text("\n".join(["id,path,label", *rows]))
    with pytest.raises(ValueError, match=rf"id must be unique, got 'v' on line 2 .* line 3 .*{advice}"):
        read_manifest(tmp_path / "clips.csv")


def test_a_manifest_checks_itself(tmp_path):
    table = pd.DataFrame({"id": ["a", "a"], "label": "x", "split": "", "group": "", "path": "a.mp4"}, dtype=str)
    with pytest.raises(ValueError, match=r"id must be unique, got 'a' on row 0 of d and again on row 1 of d"):
        Manifest("d", tmp_path, table)
    with pytest.raises(ValueError, match="root must be an absolute path"):
        Manifest("d", Path("media"), table.iloc[:1])
    with pytest.raises(ValueError, match="d must hold only text, got NaN"):
        Manifest("d", tmp_path, table.iloc[:1].assign(label=None))
    with pytest.raises(ValueError, match="got no group"):
        Manifest("d", tmp_path, table.drop(columns="group"))


def test_the_real_grid_list(test_data):
    manifest = read_manifest(test_data / "grid" / "labels.csv", label_column="adverb")
    assert len(manifest) == 700
    assert manifest.table["split"].value_counts().to_dict() == {"train": 560, "test": 140}
    assert {"command", "digit", "adverb"} <= set(manifest.table.columns)
    assert all(path is not None and path.is_file() for path in manifest.paths("video"))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=st.lists(
        st.sampled_from(["id", "path", "label", "split", "group", "start_seconds", "end_seconds", "audio_path"]),
        unique=True,
    ),
    rows=st.lists(st.lists(st.text(max_size=5) | st.sampled_from(["train", "1e13", "nan", "a/b", "x" * 300]))),
)
def test_any_table_is_read_or_refused_in_one_sentence(tmp_path, header, rows):
    path = tmp_path / "m.csv"
    with path.open("w", newline="", encoding="utf-8", errors="replace") as file:
        csv.writer(file).writerows([header, *rows])
    try:
        manifest = read_manifest(path, allow_unlabelled=True)
    except ValueError as error:
        said = str(error)
    else:
        existing_files(manifest.paths("audio"))
        assert len([manifest.interval(row) for row in range(len(manifest))]) == len(manifest)
        return
    assert re.search(r" must .*, got .*\.", said, re.DOTALL), said
