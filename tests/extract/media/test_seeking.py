"""Seeking and skipping frames, against decoding everything from the start, for every codec that can be encoded here."""

from pathlib import Path

import av
import numpy as np
import pytest

from amr.extract.media import clip as clip_module
from amr.extract.media.decode import decode
from amr.extract.media.sampling import FrameSampling

FPS, NUM_FRAMES, SIZE = 25, 200, 64
SAMPLINGS = (FrameSampling(rate_hz=4), FrameSampling(num_frames=5))
VIDEO = [
    ("mp4", "libx264", {"bf": "3", "preset": "ultrafast"}),
    ("mp4", "libx265", {"preset": "ultrafast", "x265-params": "log-level=none"}),
    ("mkv", "libsvtav1", {"preset": "12"}),
    ("mkv", "libaom-av1", {"cpu-used": "8", "usage": "realtime"}),
    ("webm", "libvpx", {"deadline": "realtime"}),
    ("webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    ("avi", "mpeg4", {"bf": "2"}),
    ("mp4", "mpeg4", {"bf": "2"}),
    ("mpg", "mpeg1video", {"bf": "2"}),
    ("ts", "mpeg2video", {"bf": "2"}),
    ("ts", "libx264", {"bf": "3", "preset": "ultrafast"}),
]
SOUND = ["pcm_s16le", "adpcm_ms", "adpcm_ima_wav"]


def render(path: Path, codec: str, options: dict[str, str]) -> Path:
    try:
        av.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"the bundled FFmpeg cannot encode {codec}")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = SIZE, SIZE, "yuv420p", 50
        stream.options = options
        for number in range(NUM_FRAMES):
            image = np.full((SIZE, SIZE, 3), number, np.uint8)
            image[8:24, number % 48 : number % 48 + 16] = 255
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(("suffix", "codec", "options"), VIDEO)
def test_frames_are_those_of_decoding_everything(tmp_path, suffix, codec, options, monkeypatch):
    path = render(tmp_path / f"clip.{suffix}", codec, options)
    intervals = [{}, {"start_seconds": 3.1, "end_seconds": 5.0}, {"start_seconds": 7.3}]
    ours = [decode(path, samplings=SAMPLINGS, **interval) for interval in intervals]
    monkeypatch.setattr(clip_module, "can_skip_frames", lambda *_: False)
    monkeypatch.setattr(clip_module, "seeks_exactly", lambda *_: False)
    for interval, fast in zip(intervals, ours, strict=True):
        everything = decode(path, samplings=SAMPLINGS, **interval)
        assert fast.failures == everything.failures == {}
        for sampling in SAMPLINGS:
            np.testing.assert_array_equal(fast.frame_seconds[sampling], everything.frame_seconds[sampling])
            np.testing.assert_array_equal(fast.frames[sampling], everything.frames[sampling])


@pytest.mark.parametrize("codec", SOUND)
def test_sound_of_an_interval_is_that_of_the_whole(tmp_path, codec):
    path, rate_hz = tmp_path / "clip.wav", 8000
    time = np.arange(40 * rate_hz) / rate_hz
    wave = (8000 * np.sin(2 * np.pi * (200 * time + 20 * time**2))).astype(np.int16)  # 40 Hz more each second
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate_hz, layout="mono")
        for first in range(0, len(wave), 4000):
            samples = np.ascontiguousarray(wave[None, first : first + 4000])
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.pts = rate_hz, first
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    whole = decode(path, sample_rates_hz=[rate_hz]).sound[rate_hz]
    part = decode(path, sample_rates_hz=[rate_hz], start_seconds=30.0, end_seconds=32.0).sound[rate_hz]
    assert len(part) == pytest.approx(2 * rate_hz, abs=2)
    expected = whole[30 * rate_hz : 30 * rate_hz + len(part)]
    assert np.corrcoef(part, expected)[0, 1] > 0.999
