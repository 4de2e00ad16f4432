from __future__ import annotations

import base64
import io

import av
import numpy as np
import pytest
from PIL import Image

from amr.extract.pipeline.load import ClipFiles
from amr.extract.pipeline.preview import SAMPLE_RATE_HZ, Media, decode_media
from amr.fusion.report.clips import media
from amr.fusion.report.clips.media import NUM_FRAMES, SOUND_SECONDS, Shown, playable, show, spectrogram


def tone(hertz: float, seconds: float) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ)).astype("f4")


def heard(uri: str) -> np.ndarray:
    """Decode a data URI of sound."""
    with av.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as container:
        resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE_HZ)
        frames = [new for frame in container.decode(audio=0) for new in resampler.resample(frame)]
        return np.concatenate([frame.to_ndarray()[0] for frame in frames])


def test_a_tone_is_a_line_at_its_height():
    picture = np.asarray(spectrogram(tone(2000, 1)).convert("L"), float)
    height = picture.mean(1).argmax() / len(picture)
    assert 1 - height == pytest.approx(2000 / 8000, abs=0.03)


@pytest.mark.parametrize("encoder", ["mp3", "none"])
def test_sound_is_heard_as_it_was(monkeypatch, encoder):
    if encoder == "none":
        monkeypatch.setattr(media, "_mp3", lambda samples: (_ for _ in ()).throw(ValueError("no encoder")))
    uri = playable(tone(440, 0.5))
    assert uri.startswith("data:audio/mpeg" if encoder == "mp3" else "data:audio/wav")
    sound = heard(uri)
    assert len(sound) == pytest.approx(0.5 * SAMPLE_RATE_HZ, abs=0.15 * SAMPLE_RATE_HZ)  # an MP3 has whole frames
    loudest = np.abs(np.fft.rfft(sound)).argmax() * SAMPLE_RATE_HZ / len(sound)
    assert loudest == pytest.approx(440, abs=5)
    assert np.abs(sound).max() == pytest.approx(0.5, abs=0.1)


def test_a_long_sound_is_cut_and_says_so():
    shown = show(Media(sound=tone(100, SOUND_SECONDS + 1)))
    assert shown.is_cut
    assert len(heard(shown.sound)) < (SOUND_SECONDS + 0.5) * SAMPLE_RATE_HZ
    assert not show(Media(sound=tone(100, 1))).is_cut


def test_real_media_become_small_pictures_and_sound(test_data):
    file = test_data / "grid" / "clips" / "bbaf5a.mp4"
    shown = show(decode_media(ClipFiles({"audio": file, "video": file}), NUM_FRAMES))
    assert len(shown.frames) == NUM_FRAMES
    for uri in (*shown.frames, shown.spectrogram):
        assert len(uri) < 30_000
        assert Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).format == "JPEG"
    assert len(shown.sound) < 30_000
    assert len(heard(shown.sound)) == pytest.approx(shown.durations["audio"] * SAMPLE_RATE_HZ, rel=0.1)


def test_undecodable_media_are_left_out(tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"nothing")
    assert show(decode_media(ClipFiles({"audio": broken, "video": broken}), 3)) == Shown()
