from __future__ import annotations

import os

import pytest

from amr.extract.text import read
from amr.extract.text.read import checked, read_text


def test_utf_8_with_and_without_a_mark(tmp_path):
    for name, content in (("a.txt", "\ufeff Zoë \r\nsagt: 早\n"), ("b.lab", "Zoë \r\nsagt: 早")):
        (tmp_path / name).write_text(content, encoding="utf-8", newline="")
        assert read_text(tmp_path / name, 1.0, 2.0) == "Zoë \r\nsagt: 早"  # plain text has no times


def test_subtitles_by_their_name(tmp_path):
    for name, mark in (("a.SRT", ","), ("a.vtt", ".")):
        cue = f"00:00:01{mark}000 --> 00:00:02{mark}000\n<b>go</b>\n"
        (tmp_path / name).write_text(("WEBVTT\n\n" if mark == "." else "1\n") + cue)
        assert read_text(tmp_path / name) == "go"
        assert read_text(tmp_path / name, 2.0) == ""


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("é".encode("latin-1"), r"a text file must be UTF-8, got byte 0xe9 at 0. Save it as UTF-8"),
        ("hello".encode("utf-16"), "must be UTF-8, got UTF-16"),
        (b"a\0b", "must be text without NUL"),
        (b"a" * 17, "must have at most 0 MiB, got more. Split it into clips"),
        (b"a" * 9, "must have at most 8 characters, got 9"),
    ],
)
def test_other_files_are_refused_with_a_reason(tmp_path, monkeypatch, content, reason):
    monkeypatch.setattr(read, "MAX_FILE_BYTES", 16)
    monkeypatch.setattr(read, "MAX_CHARACTERS", 8)
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        read_text(tmp_path / "a.txt")


def test_a_pipe_and_a_folder_are_no_text(tmp_path):
    os.mkfifo(tmp_path / "a.txt")
    for path in (tmp_path / "a.txt", tmp_path):
        with pytest.raises(ValueError, match="it is no regular file"):
            read_text(path)


def test_the_limit_is_on_characters():
    assert checked("早" * read.MAX_CHARACTERS)
    with pytest.raises(ValueError, match=r"at most 1,000,000 characters, got 1,000,001"):
        checked("a" * (read.MAX_CHARACTERS + 1))
