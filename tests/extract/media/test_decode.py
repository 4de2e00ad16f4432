"""Decoding against a reference that decodes every frame, and against every kind of broken file."""

from __future__ import annotations

import math
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amr.extract.media.decode import FrameSampling, decode
from amr.extract.media.sampling import Timeline
from amr.extract.media.streams import Pictures

FPS = 25
NUM_FRAMES = 100
SIZE = (64, 48)  # width, height
SEVEN = FrameSampling(num_frames=7)
THREE_HZ = FrameSampling(rate_hz=3)


def render(
    path: Path,
    video: str | None = "libx264",
    audio: str | None = "aac",
    *,
    num_frames: int = NUM_FRAMES,
    rate_hz: int = 44100,
    layout: str = "mono",
    stamps: list[int] | None = None,
    container_options: dict[str, str] | None = None,
    rotate: int | None = None,
) -> Path:
    """A clip whose frames grow brighter and whose tone rises; `stamps` are frame times in 1/FPS seconds."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        pictures = container.add_stream(video, rate=FPS) if video else None
        sound = container.add_stream(audio, rate=rate_hz, layout=layout) if audio else None
        if pictures is not None:
            pictures.width, pictures.height = SIZE
            pictures.pix_fmt = "yuv420p"
            pictures.gop_size = 12
            if rotate is not None:
                pictures.set_display_rotation(rotate)
            if video == "libx264":
                pictures.options = {"bf": "3", "preset": "veryfast"}
            for number, stamp in enumerate(stamps or range(num_frames)):
                frame = av.VideoFrame.from_ndarray(picture(number, num_frames), format="rgb24")
                frame.pts = stamp
                container.mux(pictures.encode(frame))
            container.mux(pictures.encode())
        if sound is not None:
            seconds = num_frames / FPS
            time = np.arange(round(seconds * rate_hz)) / rate_hz
            wave = 0.5 * np.sin(2 * math.pi * (300 * time + 250 * time**2))  # 300 Hz and 500 Hz more each second
            channels = np.stack([wave] * len(av.AudioLayout(layout).channels)).astype(np.float32)
            for first in range(0, channels.shape[1], 4410):
                piece = np.ascontiguousarray(channels[:, first : first + 4410])
                frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=layout)
                frame.sample_rate, frame.pts = rate_hz, first
                container.mux(sound.encode(frame))
            container.mux(sound.encode())
    return path


def picture(number: int, num_frames: int) -> np.ndarray:
    """A square that moves over a background that grows brighter."""
    image = np.full((SIZE[1], SIZE[0], 3), 20 + 200 * number // num_frames, np.uint8)
    image[8:24, number % 48 : number % 48 + 16] = (255, 0, 0)
    return image


def decode_all(path: Path, kind: str) -> tuple[list[float], list]:
    """Decode every frame of a stream. Returns times from the start of the file, and frames."""
    with path.open("rb") as file, av.open(file) as container:
        zero = (container.start_time or 0) / av.time_base
        (stream,) = getattr(container.streams, kind)
        frames = list(container.decode(stream))
        return [float(frame.pts * frame.time_base) - zero for frame in frames], frames


def shown_at(path: Path, sampling: FrameSampling, start: float, end: float) -> tuple[np.ndarray, np.ndarray]:
    """Frames that `decode` must select: the last one that is not later than each requested time."""
    seconds, frames = decode_all(path, "video")
    begin, finish = max(start, min(seconds)), min(end, max(seconds) + 1 / FPS)
    at = np.searchsorted(seconds, sampling.times(begin, finish) + 1e-6, side="right") - 1
    at = at.clip(0)
    return np.stack([frames[i].to_ndarray(format="rgb24") for i in at]), np.array(seconds)[at]


CLIPS = [
    ("clip.mp4", "libx264", "aac"),
    ("clip.mov", "mpeg4", "pcm_s16le"),
    ("clip.mkv", "libx264", "flac"),
    ("clip.webm", "libvpx", "libopus"),
    ("nine.webm", "libvpx-vp9", "libopus"),
    ("clip.avi", "mpeg4", "libmp3lame"),
    ("clip.flv", "flv", "libmp3lame"),
    ("clip.mpg", "mpeg1video", "mp2"),
    ("clip.ts", "mpeg2video", "mp2"),
]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    rates = {"libopus": 48000}  # the only rate it supports
    return {name: render(folder / name, video, audio, rate_hz=rates.get(audio, 44100)) for name, video, audio in CLIPS}


@pytest.mark.parametrize("interval", [(None, None), (0.4, 1.9), (2.3, 3.5), (3.0, 9.0), (1.7, None)])
@pytest.mark.parametrize("name", [name for name, _, _ in CLIPS])
def test_frames_and_sound_equal_those_of_a_full_decode(clips, name, interval):
    path, (start, end) = clips[name], interval
    decoded = decode(
        path, samplings=[SEVEN, THREE_HZ], sample_rates_hz=[44100, 16000], start_seconds=start, end_seconds=end
    )
    assert decoded.failures == {}
    assert decoded.has_audio
    assert decoded.has_video
    for sampling in (SEVEN, THREE_HZ):
        frames, seconds = shown_at(path, sampling, start or 0.0, end or math.inf)
        np.testing.assert_allclose(decoded.frame_seconds[sampling], seconds, atol=1e-6)
        np.testing.assert_array_equal(decoded.frames[sampling], frames)
    length = min(end or math.inf, NUM_FRAMES / FPS) - (start or 0.0)
    for rate, sound in decoded.sound.items():
        assert sound.dtype == np.float32
        assert sound.ndim == 1
        assert len(sound) / rate == pytest.approx(length, abs=0.08)  # codecs pad
        assert np.abs(sound).max() <= 1
        assert pitch_hz(sound, rate) == pytest.approx(300 + 500 * ((start or 0.0) + 0.5), abs=25)  # 50 ms
    assert decoded.duration_seconds == pytest.approx(length, abs=0.08)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.mov", "clip.avi", "clip.flv"])
def test_an_interval_of_the_sound_is_cut_from_the_whole(clips, name):
    whole = decode(clips[name], sample_rates_hz=[44100]).sound[44100]
    part = decode(clips[name], sample_rates_hz=[44100], start_seconds=2.5, end_seconds=3.25).sound[44100]
    assert len(part) == round(0.75 * 44100)
    first = round(2.5 * 44100)
    around = np.lib.stride_tricks.sliding_window_view(whole[first - 50 : first + 50 + len(part)], len(part))
    assert np.abs(around - part).max(1).min() < 0.02  # timestamps in whole milliseconds may be 44 samples off


@pytest.mark.parametrize(
    ("name", "codec"),
    [("t.wav", "pcm_s16le"), ("t.mp3", "libmp3lame"), ("t.flac", "flac"), ("t.ogg", "flac"), ("t.m4a", "aac")],
)
@pytest.mark.parametrize(("rate_hz", "layout"), [(44100, "stereo"), (22050, "mono")])
def test_sound_only(tmp_path, name, codec, rate_hz, layout):
    path = render(tmp_path / name, None, codec, rate_hz=rate_hz, layout=layout)
    decoded = decode(path, samplings=[SEVEN], sample_rates_hz=[16000, rate_hz])
    assert (decoded.has_audio, decoded.has_video, decoded.failures, decoded.frames) == (True, False, {}, {})
    assert pitch_hz(decoded.sound[16000], 16000) == pytest.approx(550, abs=25)
    _, pieces = decode_all(path, "audio")
    plain = np.concatenate([np.atleast_2d(as_float(piece)).mean(0) for piece in pieces])
    np.testing.assert_allclose(decoded.sound[rate_hz], plain.clip(-1, 1), atol=1e-4)


@pytest.mark.parametrize("rate_hz", [8000, 11025, 12345, 96000])
def test_odd_sample_rates(tmp_path, rate_hz):
    path = render(tmp_path / "t.wav", None, "pcm_s16le", rate_hz=rate_hz)
    sound = decode(path, sample_rates_hz=[16000]).sound[16000]
    assert len(sound) == pytest.approx(16000 * NUM_FRAMES / FPS, abs=32)
    assert pitch_hz(sound, 16000) == pytest.approx(550, abs=5)


def as_float(piece: av.AudioFrame) -> np.ndarray:
    """`(channels, samples)` from any sample format."""
    values = piece.to_ndarray()
    if not piece.format.is_planar:
        values = values.reshape(-1, len(piece.layout.channels)).T
    return values / np.iinfo(values.dtype).max if values.dtype.kind == "i" else values


def pitch_hz(sound: np.ndarray, rate: int) -> float:
    """Pitch half a second after the start."""
    part = sound[int(0.45 * rate) : int(0.55 * rate)]
    spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), n=rate))
    return float(np.argmax(spectrum))


def test_pictures_only_and_streams_that_are_not_requested(tmp_path):
    path = render(tmp_path / "silent.mp4", audio=None)
    decoded = decode(path, samplings=[SEVEN], sample_rates_hz=[16000])
    assert (decoded.has_audio, decoded.has_video) == (False, True)
    assert (decoded.sound, decoded.failures) == ({}, {})
    nothing = decode(path)
    assert (nothing.frames, nothing.sound, nothing.failures) == ({}, {}, {})
    assert nothing.duration_seconds == pytest.approx(NUM_FRAMES / FPS, abs=0.05)


def test_variable_frame_rate(tmp_path):
    stamps = [0, 1, 2, 30, 31, 60, 61, 62, 63, 99]
    path = render(tmp_path / "clip.mkv", audio=None, num_frames=len(stamps), stamps=stamps)
    decoded = decode(path, samplings=[SEVEN])
    frames, seconds = shown_at(path, SEVEN, 0, math.inf)
    np.testing.assert_allclose(decoded.frame_seconds[SEVEN], seconds, atol=1e-3)
    np.testing.assert_array_equal(decoded.frames[SEVEN], frames)


def test_a_bare_stream_has_no_timestamps_and_frames_are_counted(tmp_path):
    path = render(tmp_path / "clip.h264", audio=None)
    decoded = decode(path, samplings=[SEVEN])
    assert decoded.duration_seconds == pytest.approx(NUM_FRAMES / FPS)
    times = np.floor(SEVEN.times(0, NUM_FRAMES / FPS) * FPS + 1e-6) / FPS
    np.testing.assert_allclose(decoded.frame_seconds[SEVEN], times, atol=1e-6)
    brightness = decoded.frames[SEVEN][:, -8:].mean((1, 2, 3))
    np.testing.assert_allclose(brightness, 20 + 200 * times * FPS / NUM_FRAMES, atol=4)


def test_a_path_may_be_text_and_numbers_those_of_numpy(clips):
    numbers = {"start_seconds": np.float32(0.5), "end_seconds": np.int64(2), "audio_track": np.int64(0)}
    ours = decode(str(clips["clip.mp4"]), samplings=[SEVEN], sample_rates_hz=[np.int64(16000)], **numbers)
    plain = decode(
        clips["clip.mp4"], samplings=[SEVEN], sample_rates_hz=[16000], start_seconds=0.5, end_seconds=2, audio_track=0
    )
    np.testing.assert_array_equal(ours.sound[16000], plain.sound[16000])
    np.testing.assert_array_equal(ours.frames[SEVEN], plain.frames[SEVEN])


def test_one_frame(tmp_path):
    path = render(tmp_path / "one.mp4", audio=None, num_frames=1)
    decoded = decode(path, samplings=[SEVEN, THREE_HZ])
    assert decoded.frames[SEVEN].shape == (7, SIZE[1], SIZE[0], 3)
    assert decoded.frames[THREE_HZ].shape == (1, SIZE[1], SIZE[0], 3)
    assert (decoded.frames[SEVEN] == decoded.frames[THREE_HZ]).all()


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "gif"])
def test_an_image_is_a_clip_of_one_frame_under_any_name(tmp_path, suffix):
    image_module = pytest.importorskip("PIL.Image")
    image = picture(3, 10)
    for name in ("im%d", "yt:id", 'it\'s "that" one, ünï 東', "-x", "file*?{1}"):
        path = tmp_path / f"{name}.{suffix}"
        image_module.fromarray(image).save(path)
        decoded = decode(path, samplings=[THREE_HZ], sample_rates_hz=[16000])
        assert (decoded.failures, decoded.has_audio) == ({}, False)
        assert decoded.frames[THREE_HZ].shape == (1, *image.shape)
        assert np.abs(decoded.frames[THREE_HZ][0].astype(int) - image)[32:].max() < 12  # below the red square


@pytest.mark.parametrize("suffix", [".mp3", ".flac"])
def test_cover_art_is_no_video(tmp_path, suffix):
    codec = {".mp3": "libmp3lame", ".flac": "flac"}[suffix]
    path = tmp_path / f"song{suffix}"
    with av.open(str(path), "w") as container:
        sound = container.add_stream(codec, rate=44100, layout="mono")
        cover = container.add_stream("mjpeg")
        cover.width, cover.height, cover.pix_fmt = *SIZE, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(picture(1, 10), format="rgb24")))
        container.mux(cover.encode())
        piece = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        piece.sample_rate, piece.pts = 44100, 0
        container.mux(sound.encode(piece))
        container.mux(sound.encode())
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1
    decoded = decode(path, samplings=[SEVEN], sample_rates_hz=[16000])
    assert (decoded.has_video, decoded.has_audio, decoded.failures, decoded.frames) == (False, True, {}, {})


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_rotation_is_undone(tmp_path, degrees):
    if not hasattr(av.video.stream.VideoStream, "set_display_rotation"):
        pytest.skip("this PyAV cannot write rotated clips")
    turned = decode(render(tmp_path / "b.mp4", audio=None, rotate=degrees), samplings=[SEVEN]).frames[SEVEN]
    as_coded, _ = shown_at(tmp_path / "b.mp4", SEVEN, 0.0, math.inf)
    _, frames = decode_all(tmp_path / "b.mp4", "video")
    assert (frames[0].rotation - degrees) % 360 == 0
    np.testing.assert_array_equal(turned, np.rot90(as_coded, degrees // 90, axes=(1, 2)))


BROKEN = {
    "empty": (b"", "it is empty"),
    "text": (b"this is not a film\n" * 40, "Invalid data"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Invalid data"),
    "playlist": (b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nclip.ts\n#EXT-X-ENDLIST\n", "opened"),
    "session": (b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n", "opened"),
    "list": (b"ffconcat version 1.0\nfile clip.mp4\n", "opened"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_cannot_be_opened_fails_each_requested_modality(clips, tmp_path, kind):
    content, reason = BROKEN[kind]
    content = content.replace(b"clip.", str(clips["clip.mp4"].with_name("clip.")).encode())
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    decoded = decode(path, samplings=[SEVEN], sample_rates_hz=[16000])
    assert set(decoded.failures) == {"audio", "video"}
    assert all(reason in text for text in decoded.failures.values())
    assert set(decode(path, sample_rates_hz=[16000]).failures) == {"audio"}


def test_paths_that_are_not_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (tmp_path, tmp_path / "pipe.mp4", tmp_path / "missing.mp4"):
        assert set(decode(path, samplings=[SEVEN]).failures) == {"video"}


def test_an_mp4_without_its_index_fails_and_a_stream_cut_short_gives_what_it_has(clips, tmp_path):
    for name, path in clips.items():
        content = path.read_bytes()
        half = tmp_path / name
        half.write_bytes(content[: len(content) // 2])
        decoded = decode(half, samplings=[SEVEN], sample_rates_hz=[16000])
        if name in ("clip.mp4", "clip.mov"):
            assert set(decoded.failures) == {"audio", "video"}
        else:
            assert decoded.frames[SEVEN].shape == (7, SIZE[1], SIZE[0], 3)
            assert decoded.frame_seconds[SEVEN][-1] < 3.9


def test_an_mp4_that_ends_before_its_index_says(tmp_path):
    whole = render(tmp_path / "whole.mp4", container_options={"movflags": "faststart"})
    content = whole.read_bytes()
    (tmp_path / "half.mp4").write_bytes(content[: len(content) * 6 // 10])
    decoded = decode(tmp_path / "half.mp4", samplings=[SEVEN], sample_rates_hz=[16000])
    assert decoded.failures == {}
    assert 0 < decoded.frame_seconds[SEVEN][-1] < 3.8
    assert 0 < len(decoded.sound[16000]) < 16000 * 3.8


def test_sound_of_no_length_is_a_failure(tmp_path):
    path = render(tmp_path / "whole.wav", None, "pcm_s16le")
    content = path.read_bytes()
    (tmp_path / "none.wav").write_bytes(content[: content.index(b"data") + 8])
    decoded = decode(tmp_path / "none.wav", sample_rates_hz=[16000], samplings=[SEVEN])
    assert decoded.has_audio
    assert decoded.failures == {"audio": "no sound could be decoded"}


def test_pictures_that_cannot_be_converted_leave_the_sound(clips, monkeypatch):
    def fail(*_: object) -> None:
        raise ValueError("no such format")

    monkeypatch.setattr(Pictures, "_to_rgb", fail)
    decoded = decode(clips["clip.mp4"], samplings=[SEVEN], sample_rates_hz=[16000])
    assert decoded.failures == {"video": "no frame could be decoded: no such format"}
    assert (decoded.frames, len(decoded.sound[16000]) > 16000) == ({}, True)


def test_an_interval_past_the_end_is_a_failure(clips):
    decoded = decode(clips["clip.mp4"], samplings=[SEVEN], sample_rates_hz=[16000], start_seconds=60, end_seconds=70)
    assert set(decoded.failures) == {"audio", "video"}
    assert all("interval" in reason for reason in decoded.failures.values())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from([name for name, _, _ in CLIPS]),
    damage=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=40)), max_size=12),
    keep=st.floats(0.05, 1),
    start=st.sampled_from([None, 2.5]),
)
def test_damage_never_raises(clips, tmp_path, name, damage, keep, start):
    content = bytearray(clips[name].read_bytes())
    for where, noise in damage:
        at = int(where * len(content))
        content[at : at + len(noise)] = noise
    path = tmp_path / name
    path.write_bytes(content[: int(keep * len(content))])
    decoded = decode(path, samplings=[SEVEN], sample_rates_hz=[16000], start_seconds=start)
    for frames in decoded.frames.values():
        assert len(frames) == 7
    for sound in decoded.sound.values():
        assert len(sound)
        assert np.isfinite(sound).all()
    if decoded.has_video:
        assert ("video" in decoded.failures) != bool(decoded.frames)
    if decoded.has_audio:
        assert ("audio" in decoded.failures) != bool(decoded.sound)


@settings(max_examples=60, deadline=None)
@given(
    gaps=st.lists(st.integers(1, 50), min_size=1, max_size=30),
    first=st.integers(0, 100),
    num_frames=st.integers(1, 20),
    rate_hz=st.floats(0.5, 20),
)
def test_selected_frames_were_on_the_screen(gaps, first, num_frames, rate_hz):
    stamps = np.cumsum([first, *gaps])
    seconds = stamps / 100
    timeline = Timeline(float(seconds[0]), float(seconds[-1] + 0.1), stamps, seconds)
    samplings = (FrameSampling(num_frames=num_frames), FrameSampling(rate_hz=rate_hz))
    pictures = Pictures(samplings, timeline)
    for stamp in stamps:
        frame = av.VideoFrame.from_ndarray(np.full((2, 2, 3), stamp % 251, np.uint8), format="rgb24")
        frame.pts, frame.time_base = int(stamp), Fraction(1, 100)
        if pictures.needs(frame.pts):  # frames that are skipped must make no difference
            pictures.add(frame, 0.0)
    assert pictures.finish()
    for sampling in samplings:
        times = sampling.times(timeline.begin, timeline.end)
        at = np.searchsorted(seconds, times + 1e-6, side="right") - 1
        np.testing.assert_allclose(pictures.frame_seconds[sampling], seconds[at])
        np.testing.assert_array_equal(pictures.frames[sampling][:, 0, 0, 0], stamps[at] % 251)


@given(start=st.floats(0, 100), length=st.floats(0, 100), num_frames=st.integers(1, 50), rate_hz=st.floats(0.1, 50))
def test_times_lie_in_the_interval_and_are_evenly_spread(start, length, num_frames, rate_hz):
    end = start + length
    for sampling in (FrameSampling(num_frames=num_frames), FrameSampling(rate_hz=rate_hz)):
        times = sampling.times(start, end)
        assert len(times) >= 1
        assert (times >= start - 1e-9).all()
        assert (times <= end + 1e-9).all()
        assert (np.diff(times) >= 0).all()
    assert len(FrameSampling(num_frames=num_frames).times(start, end)) == num_frames
    assert abs(len(FrameSampling(rate_hz=rate_hz).times(start, end)) - length * rate_hz) <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either num_frames or rate_hz"),
        ({"num_frames": 2, "rate_hz": 1.0}, "either num_frames or rate_hz"),
        ({"num_frames": 0}, "num_frames must be at least 1, got 0"),
        ({"rate_hz": 0.0}, "rate_hz must be above 0"),
        ({"rate_hz": math.inf}, "rate_hz must be above 0 and finite"),
    ],
)
def test_a_sampling_checks_itself(arguments, message):
    with pytest.raises(ValueError, match=message):
        FrameSampling(**arguments)


def test_wrong_requests(tmp_path):
    with pytest.raises(ValueError, match="start_seconds must be"):
        decode(tmp_path / "x", start_seconds=2, end_seconds=1)
    with pytest.raises(ValueError, match="sample_rates_hz must be"):
        decode(tmp_path / "x", sample_rates_hz=[0])


@pytest.mark.parametrize(
    ("pattern", "has_audio", "has_video", "seconds"),
    [
        ("cremad/VideoFlash/*.flv", True, True, 2.2),
        ("cremad/AudioWAV/*.wav", True, False, 2.3),
        ("cremad/AudioMP3/*.mp3", True, False, 2.6),
        ("grid/originals/*.mpg", True, True, 3.0),
        ("grid/clips/bb*.mp4", True, True, 3.0),
        ("vggsound/video/[!Z]*.mp4", True, True, 10.0),
    ],
)
def test_real_media(test_data, pattern, has_audio, has_video, seconds):
    paths = sorted(test_data.glob(pattern))[:3]
    assert paths
    for path in paths:
        decoded = decode(path, samplings=[SEVEN], sample_rates_hz=[16000])
        assert decoded.failures == {}
        assert (decoded.has_audio, decoded.has_video) == (has_audio, has_video)
        assert decoded.duration_seconds == pytest.approx(seconds, rel=0.35)
        assert decoded.sound[16000].std() > 1e-4
        if has_video:
            assert len(np.unique(decoded.frame_seconds[SEVEN])) == 7


def test_real_frames_equal_those_of_a_full_decode(test_data):
    for pattern in ("cremad/VideoFlash/*.flv", "grid/originals/*.mpg", "grid/clips/*.mp4", "vggsound/video/3q*.mp4"):
        path = sorted(test_data.glob(pattern))[0]
        decoded = decode(path, samplings=[SEVEN])
        seconds, frames = decode_all(path, "video")
        at = [seconds.index(pytest.approx(time, abs=1e-6)) for time in decoded.frame_seconds[SEVEN]]
        expected = [frames[i].to_ndarray(format="rgb24") for i in at]
        np.testing.assert_array_equal(decoded.frames[SEVEN], np.stack(expected))
        end = max(seconds) + seconds[1] - seconds[0]
        expected_at = np.searchsorted(seconds, SEVEN.times(min(seconds), end) + 1e-6, side="right") - 1
        assert np.abs(expected_at - at).max() <= 1  # how long the last frame is shown is not known exactly
