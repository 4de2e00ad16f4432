"""Sound and frames for pictures."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import wave
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imsave

from amr.extract.pipeline import preview
from amr.extract.pipeline.load import ClipFiles
from amr.extract.pipeline.preview import decode_media


def test_a_folder_of_images_has_frames(tmp_path: Path):
    for i in range(4):
        imsave(tmp_path / f"{i}.png", np.full((6, 8, 3), 60 * i, np.uint8))
    media = decode_media(ClipFiles({"audio": None, "video": tmp_path}), 2)
    assert media.frames.shape == (2, 6, 8, 3)
    assert media.frames[0].mean() < media.frames[1].mean()
    assert media.notes == ()
    gone = decode_media(ClipFiles({"audio": None, "video": tmp_path / "gone"}), 2)
    assert gone.notes == (f"video file not found: {tmp_path / 'gone'}",)


def test_a_clip_without_files_has_no_media():
    assert decode_media(ClipFiles({"audio": None}), 2).notes == ()


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def crash():
    faulthandler.disable()  # of pytest
    ctypes.string_at(0)


def no_memory():
    raise MemoryError


def sleep():
    ctypes.CDLL(None).sleep(1000)


@pytest.mark.parametrize(
    ("fault", "note"),
    [
        (kill, "video: decoding it kills the process (SIGKILL)"),
        (crash, "video: decoding it kills the process (SIGSEGV)"),
        (no_memory, "video: the file cannot be read: MemoryError"),
        (sleep, "video: decoding it takes longer than 1 s"),
    ],
)
def test_frames_that_end_the_decoder_do_not_cost_the_sound(tmp_path: Path, monkeypatch, fault, note):
    with wave.open(str(tmp_path / "x"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(np.arange(8000, dtype="<i2").tobytes())
    clip = ClipFiles({"audio": tmp_path / "x", "video": tmp_path / "x"})
    real, whole = preview.decode, decode_media(clip, 2)

    def faulty(path, **requested):
        if requested["samplings"]:
            fault()
        return real(path, **requested)

    monkeypatch.setattr(preview, "decode", faulty)
    monkeypatch.setattr(preview, "SECONDS", 1.0)
    media = decode_media(clip, 2)
    assert media.notes == (note,)
    np.testing.assert_array_equal(media.sound, whole.sound)
    assert media.duration_seconds == {"audio": 1.0}


@pytest.mark.parametrize("error", [KeyboardInterrupt, BlockingIOError])
def test_no_process_outlives_a_preview_that_is_interrupted(tmp_path: Path, monkeypatch, error):
    """At its first result, or at the start of its second process."""
    calls = []

    class Interrupted(preview.Call):
        def __init__(self, *arguments):
            if calls and error is BlockingIOError:
                raise BlockingIOError
            super().__init__(*arguments)
            calls.append(self)

        def result(self, limit_seconds):
            raise error

    def killed(*arguments, limit_seconds):
        raise preview.Unfinished

    monkeypatch.setattr(preview, "Call", Interrupted)
    monkeypatch.setattr(preview, "call_apart", killed)
    with pytest.raises(error):
        decode_media(ClipFiles({"audio": tmp_path / "x", "video": tmp_path / "x"}), 2)
    assert [call._process.exitcode for call in calls] == [-signal.SIGKILL] * len(calls)
    assert len(calls) == (2 if error is KeyboardInterrupt else 1)
