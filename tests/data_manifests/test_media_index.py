import os

import pytest

from amr.data_manifests.media_index import AUDIO_ORDER, VIDEO, choose, index_media

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 72862\n"


def test_media_are_found_by_stem_whatever_the_folder(tmp_path):
    for name in ("a/x.wav", "b/c/x.FLV", "y.mp3", "z.txt", ".x.wav", ".git/x.mp4"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"media")
    index = index_media(tmp_path, "home")
    assert index.files == {"x": ["a/x.wav", "b/c/x.FLV"], "y": ["y.mp3"]}
    assert index.notes() == []


def test_git_lfs_pointers_are_not_media(tmp_path):
    (tmp_path / "a.wav").write_text(POINTER)
    (tmp_path / "b.wav").write_text("short, but no pointer")
    (tmp_path / "empty.wav").touch()
    index = index_media(tmp_path, "home")
    assert sorted(index.files) == ["b", "empty"]
    assert index.pointers == ["a.wav"]
    assert "1 file is a git-lfs pointer, not media, and counts as absent" in index.notes()[0]
    assert "git lfs pull" in index.notes()[0]


def test_pipes_and_broken_links_are_named(tmp_path):
    (tmp_path / "b.wav").symlink_to("nothing.wav")
    os.mkfifo(tmp_path / "a.mp4")
    index = index_media(tmp_path, "home")
    assert (index.files, index.no_files) == ({}, ["a.mp4", "b.wav"])
    assert index.notes() == ["2 names belong to pipes or broken links: absent (a.mp4, b.wav)"]


def test_links_to_folders_are_followed_once(tmp_path):
    real = tmp_path / "elsewhere"
    real.mkdir()
    (real / "a.wav").touch()
    root = tmp_path / "root"
    root.mkdir()
    os.symlink(real, root / "AudioWAV")
    os.symlink(root, root / "loop")
    os.symlink(root / "absent.wav", root / "broken.wav")
    assert index_media(root, "home").files == {"a": ["AudioWAV/a.wav"]}


def test_an_absent_root_names_the_source_of_the_media(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Get them from https://x, or pass --root"):
        index_media(tmp_path / "absent", "https://x")


@pytest.mark.parametrize(
    ("paths", "audio", "video"),
    [
        (["x.flv", "x.mp3", "x.wav"], "x.wav", "x.flv"),
        (["x.flv", "x.mp3"], "x.flv", "x.flv"),
        (["x.mp3", "x.mp4"], "x.mp3", "x.mp4"),
        (["x.mp4"], "x.mp4", "x.mp4"),
        (["x.mp3"], "x.mp3", ""),
        (["a/x.WAV", "b/x.wav"], "a/x.WAV", ""),
        ([], "", ""),
    ],
)
def test_which_of_several_files_is_chosen(paths, audio, video):
    assert (choose(paths, AUDIO_ORDER), choose(paths, VIDEO)) == (audio, video)
