"""Clips by file, folder, table and id."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from amr.extract.named_clips import named_clips


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "cats/b.mp4", "dogs/b.wav", "dogs/c.flv", "dogs/c.wav", "dogs/.hidden.mp4", "dogs/notes.txt"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("media")
    return tmp_path


def files(clip):
    return {m: path and str(path) for m, path in clip.files.paths.items()}


def test_a_file_is_its_own_clip_and_anything_else_may_be_an_id(here):
    file, unknown, empty, long = named_clips(["a.mp4", "a", "", "x" * 5000])
    assert (file.name, files(file)) == ("a.mp4", {"audio": "a.mp4", "video": "a.mp4"})
    for clip in (unknown, empty, long):
        assert (clip.files, clip.problem) == (None, "no such file")


def test_a_folder_holds_one_clip_per_name_and_subfolder(here):
    clips = {clip.name: files(clip) for clip in named_clips(["."])}
    assert clips == {
        "a.mp4": {"audio": "a.mp4", "video": "a.mp4"},
        "cats/b.mp4": {"audio": "cats/b.mp4", "video": "cats/b.mp4"},
        "dogs/b.wav": {"audio": "dogs/b.wav", "video": None},
        "dogs/c.flv": {"audio": "dogs/c.wav", "video": "dogs/c.flv"},
    }


def test_pointers_and_folders_without_media_are_named(here):
    Path("cats/b.mp4").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    Path("empty").mkdir()
    Path("pipes").mkdir()
    os.mkfifo("pipes/a.mp4")
    pointer, nothing, pipe = named_clips(["cats", "empty", "pipes"])
    assert (pipe.name, pipe.files, pipe.problem) == ("pipes/a.mp4", None, "a pipe or a broken link")
    assert (pointer.name, pointer.files) == ("cats/b.mp4", None)
    assert "git lfs pull" in pointer.problem
    assert (nothing.name, nothing.files) == ("empty", None)
    assert "no media files and no images" in nothing.problem


def test_folders_of_images_are_clips_where_there_are_no_media(here):
    for name in ("frames/one/1.jpg", "frames/one/2.jpg", "frames/two/1.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    assert [clip.name for clip in named_clips(["frames"])] == ["frames/one", "frames/two"]
    (one,) = named_clips(["frames/one"])
    assert (one.name, files(one)["video"]) == ("frames/one", "frames/one")
    Path("dogs/1.jpg").touch()
    assert [clip.name for clip in named_clips(["dogs"])] == ["dogs/b.wav", "dogs/c.flv"]


def test_a_manifest_gives_files_and_times_and_needs_no_label(here):
    Path("clips.csv").write_text(
        "id,audio_path,video_path,start_seconds,end_seconds\nx,dogs/b.wav,a.mp4,0.5,2\ny,,gone.mp4,,\nz,,,,\n"
    )
    x, y, z = named_clips(["clips.csv"])
    assert (x.name, files(x)) == ("x", {"audio": str(here / "dogs/b.wav"), "video": str(here / "a.mp4")})
    assert (x.files.start_seconds, x.files.end_seconds) == (0.5, 2)
    assert (y.name, y.files, y.problem) == ("y", None, f"file not found: {here / 'gone.mp4'}")
    assert (z.name, z.files, z.problem) == ("z", None, "the row has no path")


@pytest.mark.parametrize("column", ["id", "clip"])
def test_a_csv_without_paths_holds_ids_or_files(here, column):
    Path("ids.csv").write_text(f"\ufefflabel,{column}\nhappy,007\nsad,a.mp4\n", encoding="utf-8")
    id_, file = named_clips(["ids.csv"])
    assert (id_.name, id_.files) == ("007", None)
    assert files(file)["video"] == "a.mp4"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,label\nx,y\n", r"ids.csv must have a column path, <modality>_path, id or clip, got name, label\. Name"),
        ("id,label\nx\n", r"line 2 of ids.csv must have 2 values like the header, got 1"),
        ("path,start_seconds\na.mp4,late\n", "start_seconds must be a number of seconds"),
        ("", "must begin with a header"),
    ],
)
def test_a_wrong_csv_is_refused(here, text, message):
    Path("ids.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        named_clips(["ids.csv"])
