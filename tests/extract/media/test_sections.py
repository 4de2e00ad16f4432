"""Files whose timestamps begin again half-way, made by appending one recording to another."""

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from amr.extract.media.decode import Decoded, decode
from amr.extract.media.sampling import FrameSampling
from amr.extract.media.sections import Sections

FPS, RATE_HZ, SECONDS = 25, 48000, 4
TWELVE = FrameSampling(num_frames=12)
FLV_HEADER_BYTES = 13
FORMATS = {
    "ts": ("libx264", "aac"),
    "mpg": ("mpeg2video", "mp2"),
    "webm": ("libvpx", "libopus"),
    "flv": ("flv", "aac"),
    "avi": ("mpeg4", "mp2"),
}


def record(path: Path, *, is_bright: bool, begin_seconds: int = 0) -> bytes:
    """A dark recording with a low tone, or a bright one with a high tone."""
    video, audio = FORMATS[path.suffix[1:]]
    with av.open(str(path), "w") as container:
        pictures = container.add_stream(video, rate=FPS)
        pictures.width, pictures.height, pictures.pix_fmt, pictures.gop_size = 64, 48, "yuv420p", FPS
        sound = container.add_stream(audio, rate=RATE_HZ, layout="mono")
        time = np.arange(RATE_HZ * SECONDS) / RATE_HZ
        wave = 0.3 * np.sin(2 * np.pi * (2000 if is_bright else 300) * time)
        for number in range(FPS * SECONDS):
            image = np.full((48, 64, 3), 220 if is_bright else 20, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number + begin_seconds * FPS
            container.mux(pictures.encode(frame))
            first = number * RATE_HZ // FPS
            samples = wave[None, first : first + RATE_HZ // FPS].astype(np.float32)
            piece = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout="mono")
            piece.sample_rate, piece.pts = RATE_HZ, first + begin_seconds * RATE_HZ
            container.mux(sound.encode(piece))
        container.mux(pictures.encode())
        container.mux(sound.encode())
    return path.read_bytes()


def appended(folder: Path, suffix: str, **second: int) -> Path:
    """A dark recording, then a bright one, in one file."""
    dark = record(folder / f"dark.{suffix}", is_bright=False)
    bright = record(folder / f"bright.{suffix}", is_bright=True, **second)
    path = folder / f"both.{suffix}"
    path.write_bytes(dark + (bright[FLV_HEADER_BYTES:] if suffix == "flv" else bright))
    return path


def heard(decoded: Decoded) -> list[int]:
    """Pitch of each of twelve sections of the sound, in Hz."""
    sections = np.array_split(decoded.sound[RATE_HZ], 12)
    return [int(np.abs(np.fft.rfft(part * np.hanning(len(part)), n=RATE_HZ)).argmax()) for part in sections]


def seen(decoded: Decoded) -> list[bool]:
    """Whether each of twelve frames is bright."""
    return (decoded.frames[TWELVE].mean((1, 2, 3)) > 120).tolist()


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_second_recording_follows_the_first(tmp_path, suffix):
    path = appended(tmp_path, suffix)
    for start, end in ((None, None), (3.0, 6.0), (5.0, None), (0.5, 3.5)):
        check_interval(path, start, end)


def check_interval(path: Path, start: float | None, end: float | None) -> None:
    settings = {"sample_rates_hz": [RATE_HZ], "start_seconds": start, "end_seconds": end}
    decoded = decode(path, samplings=[TWELVE], **settings)
    assert decoded.failures == {}
    begin, finish = start or 0.0, end or 2 * SECONDS
    assert decoded.duration_seconds == pytest.approx(finish - begin, abs=0.25)
    middles = begin + (np.arange(12) + 0.5) * decoded.duration_seconds / 12
    unclear = np.abs(middles - SECONDS) < 0.2
    assert np.array_equal(np.array(seen(decoded))[~unclear], (middles > SECONDS)[~unclear])
    np.testing.assert_allclose(
        np.array(heard(decoded))[~unclear], np.where(middles > SECONDS, 2000, 300)[~unclear], atol=5
    )
    alone = decode(path, **settings)
    np.testing.assert_array_equal(alone.sound[RATE_HZ], decoded.sound[RATE_HZ])


@pytest.mark.parametrize("begin_seconds", [5, 1000])
def test_a_second_recording_whose_timestamps_are_far_ahead(tmp_path, begin_seconds):
    decoded = decode(
        appended(tmp_path, "ts", begin_seconds=begin_seconds), samplings=[TWELVE], sample_rates_hz=[RATE_HZ]
    )
    gap = 1 if begin_seconds == 5 else 0  # a short gap is one of the recording
    assert decoded.duration_seconds == pytest.approx(2 * SECONDS + gap, abs=0.3)
    assert sum(seen(decoded)) in (5, 6)


@pytest.mark.parametrize(("suffix", "codec"), [("ogg", "flac"), ("opus", "libopus")])
def test_chained_sound(tmp_path, suffix, codec):
    paths = []
    for pitch_hz in (300, 2000):
        paths.append(tmp_path / f"{pitch_hz}.{suffix}")
        with av.open(str(paths[-1]), "w") as container:
            sound = container.add_stream(codec, rate=RATE_HZ, layout="mono")
            wave = 0.3 * np.sin(2 * np.pi * pitch_hz * np.arange(RATE_HZ * SECONDS) / RATE_HZ)
            for first in range(0, len(wave), 4800):
                samples = np.ascontiguousarray(wave[None, first : first + 4800].astype(np.float32))
                piece = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
                piece.sample_rate, piece.pts = RATE_HZ, first
                container.mux(sound.encode(piece))
            container.mux(sound.encode())
    (tmp_path / f"both.{suffix}").write_bytes(paths[0].read_bytes() + paths[1].read_bytes())
    decoded = decode(tmp_path / f"both.{suffix}", sample_rates_hz=[RATE_HZ], start_seconds=3.0, end_seconds=6.0)
    assert heard(decoded)[:3] == [300] * 3
    assert heard(decoded)[5:] == [2000] * 7


def packet(stream: int, seconds: float) -> SimpleNamespace:
    """A packet of 0.04 s with timestamps in hundredths of a second."""
    ticks = round(seconds * 100)
    return SimpleNamespace(stream_index=stream, pts=ticks, dts=ticks, duration=4, time_base=Fraction(1, 100))


def sections_of(times: list[tuple[int, float]], format_name: str = "mpegts") -> tuple[list[int], list[float | None]]:
    sections = Sections()
    return [sections.add(packet(*each)) for each in times], sections.shifts(format_name)


def steady(stream: int, begin: float, end: float) -> list[tuple[int, float]]:
    return [(stream, float(time)) for time in np.arange(begin, end - 1e-6, 0.04)]


def test_one_recording_is_one_section():
    ordered = sorted(steady(0, 0, 4) + steady(1, 0.3, 5), key=lambda each: each[1])
    assert sections_of(ordered) == ([0] * len(ordered), [0.0])
    at, shifts = sections_of([*ordered, *steady(0, 9, 10), *steady(1, 9, 10)])  # packets are missing
    assert set(at) == {0}
    assert shifts == [0.0]


def test_streams_enter_a_section_one_after_the_other():
    times = [*steady(0, 0, 4), *steady(1, 0, 3.8), *steady(0, 1, 3), *steady(1, 3.8, 4.2), *steady(1, 0.9, 3)]
    at, shifts = sections_of(times)
    assert at == [0] * (100 + 95) + [1] * 50 + [0] * 10 + [1] * 53
    assert shifts == pytest.approx([0.0, 4.2 - 0.9])


def test_far_steps_are_closed_only_where_recordings_begin_anywhere():
    times = [*steady(0, 0, 4), *steady(0, 500, 504), *steady(0, 0, 4)]
    assert sections_of(times)[1] == pytest.approx([0.0, -496.0, 8.0])
    assert sections_of(times, "matroska")[1] == pytest.approx([0.0, 0.0, 504.0])


def test_slides_of_a_minute_are_one_recording():
    assert set(sections_of([(0, 60.0 * number) for number in range(20)], "matroska")[1]) == {0.0}


@pytest.mark.parametrize("wrong", [-3600.0, -5.0, 5.0, 3600.0])
@pytest.mark.parametrize("count", [1, 3])
def test_a_few_damaged_timestamps_begin_no_section(wrong, count):
    damaged = [(0, 2.0 + wrong + 0.04 * number) for number in range(count)]
    times = [*steady(0, 0, 2), *damaged, *steady(0, 2.0 + 0.04 * count, 4)]
    at, shifts = sections_of([*times, *steady(1, 0, 4)])
    assert [each for each in at if shifts[each] is not None] == [0] * (len(at) - at.count(1))
    assert shifts[0] == 0.0
    assert shifts[1:] in ([], [None])
