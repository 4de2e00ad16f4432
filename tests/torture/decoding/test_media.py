"""A short form of the corpus of media, in a process of its own: its children's memory has bounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..__main__ import run_one
from ..child import Ended
from .media import Alone, Medium, Row, difference, touched, whole_modalities


def test_every_clip_is_present_failed_or_absent_and_equals_itself_alone():
    for row in run_one("decoding.media", seed=0, scale=0.025):
        assert row["lost"] == [], row["kind"]
        assert row["tries"] > 0 or row["note"].startswith("not tried: ")


@pytest.mark.parametrize(
    ("call", "is_wrong"),
    [
        ('7 openat(AT_FDCWD, "/m/clip.mp4", O_RDONLY|O_CLOEXEC) = 3', False),
        ('7 openat(AT_FDCWD, "/m/folder/1.png", O_RDONLY|O_CLOEXEC) = 3', False),
        ('7 openat(AT_FDCWD, "/m/\\303\\274.mp4", O_RDONLY|O_CLOEXEC) = 3', False),
        ('7 openat(AT_FDCWD, "/m/folder", O_RDONLY|O_DIRECTORY) = 3', False),
        ('7 openat(AT_FDCWD, "/m/secret.txt", O_RDONLY) = -1 ENOENT (No such file or directory)', False),
        ('7 openat(AT_FDCWD, "/m/secret.txt", O_RDONLY) = 3', True),
        ('7 open("/m/secret.txt", O_RDONLY <unfinished ...>', True),
        ('7 connect(3, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1 ENOENT', False),
        ('7 connect(3, {sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("127.0.0.1")}, 16) = 0', True),
    ],
)
def test_other_files_and_hosts_are_seen(call, is_wrong):
    media = [Medium(name) for name in ("clip.mp4", "folder", "ü.mp4")]
    assert bool(touched(call, Path("/m"), media)) == is_wrong


@pytest.mark.parametrize(
    ("medium", "modalities"),
    [
        (Medium("whole-h264.mp4"), {"audio", "video"}),
        (Medium("whole-sound.wav"), {"audio"}),
        (Medium("whole-picture.png"), {"video"}),
        (Medium("whole-h264.mp4", "5"), set()),
        (Medium("points-h264.mp4"), set()),
    ],
)
def test_it_is_known_what_a_whole_file_has(medium, modalities):
    assert whole_modalities(medium) == modalities


@pytest.mark.parametrize(
    ("row", "must_be_present", "why"),
    [
        (Row(b"1", ""), True, ""),
        (Row(None, "odd"), True, "is failed, though the file is whole: odd"),
        (Row(None, "odd"), False, ""),
        (Row(None, ""), True, "is absent, though the file is whole: "),
        (Row(b"1", "odd"), False, "is present and failed: odd"),
    ],
)
def test_a_whole_clip_that_fails_among_others_and_alone_is_lost(row, must_be_present, why):
    alone = Alone(Ended(0, "", "", 1.0), {"logmel": row}, {"audio": False})
    assert difference("logmel", row, alone, must_be_present=must_be_present) == why
