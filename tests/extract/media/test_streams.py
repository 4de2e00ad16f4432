"""Sound keeps its time: gaps and late starts are silent, and damaged timestamps move nothing."""

import wave as wave_module
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.resampler import AudioResampler
from hypothesis import given, settings
from hypothesis import strategies as st

from amr.extract.media import spool, streams
from amr.extract.media.decode import decode
from amr.extract.media.sampling import FrameSampling, Reduction
from amr.extract.media.streams import MAX_GAP_SECONDS, Resampler, Sound, _clean, _mono

RATE_HZ, FPS = 16000, 25
PIECE = 320  # samples: 0.02 s


def write(path: Path, codec: str, pieces: list[float], seconds: float = 12.0) -> Path:
    """Pictures from 0, and a constant sound in pieces of 0.1 s that begin at the given times."""
    rate_hz = 44100 if path.suffix == ".flv" else 48000
    with av.open(str(path), "w") as container:
        pictures = container.add_stream({".ts": "mpeg2video", ".flv": "flv"}.get(path.suffix, "mpeg4"), rate=FPS)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream(codec, rate=rate_hz, layout="mono")
        for number in range(round(seconds * FPS)):
            image = np.full((48, 64, 3), 20 + number % 200, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number
            container.mux(pictures.encode(frame))
            for begin in pieces:
                if number <= begin * FPS < number + 1:
                    time = begin + np.arange(rate_hz // 10) / rate_hz
                    wave = (0.4 * np.sin(2 * np.pi * 500 * time)).astype(np.float32)
                    piece = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
                    piece.sample_rate, piece.pts = rate_hz, round(begin * rate_hz)
                    container.mux(sound.encode(piece))
        container.mux(pictures.encode())
        container.mux(sound.encode())
    return path


def loud(sound: np.ndarray) -> list[bool]:
    """Whether each tenth of a second has sound in its middle."""
    tenths = sound[: len(sound) // (RATE_HZ // 10) * (RATE_HZ // 10)].reshape(-1, RATE_HZ // 10)
    return (np.abs(tenths[:, 400:-400]).max(1) > 0.2).tolist()


def tenths(*ranges: tuple[float, float]) -> list[float]:
    return [number / 10 for begin, end in ranges for number in range(round(begin * 10), round(end * 10))]


FILES = [
    ("clip.mkv", "pcm_s16le"),
    ("clip.mp4", "aac"),
    ("clip.ts", "mp2"),
    ("clip.mkv", "libopus"),
    ("clip.flv", "libmp3lame"),
]


@pytest.mark.parametrize(("name", "codec"), FILES)
def test_a_gap_in_the_sound_is_silent(tmp_path, name, codec):
    path = write(tmp_path / name, codec, tenths((0, 3), (6, 12)))
    for start, end in ((None, None), (2.0, 8.0), (4.0, 7.0), (1.0, 5.0), (5.0, None)):
        decoded = decode(path, sample_rates_hz=[RATE_HZ], start_seconds=start, end_seconds=end)
        begin, finish = start or 0.0, end or 12.0
        assert len(decoded.sound[RATE_HZ]) / RATE_HZ == pytest.approx(finish - begin, abs=0.15)
        is_loud = np.array(loud(decoded.sound[RATE_HZ]))
        middles = np.round(begin + np.arange(len(is_loud)) / 10 + 0.05, 2)
        clear = (np.abs(middles - 3) > 0.2) & (np.abs(middles - 6) > 0.2) & (middles < 11.8)
        np.testing.assert_array_equal(is_loud[clear], ((middles < 3) | (middles > 6))[clear])


@pytest.mark.parametrize(("name", "codec"), FILES)
def test_a_late_start_of_the_sound_is_silent(tmp_path, name, codec):
    path = write(tmp_path / name, codec, tenths((2, 12)))
    for start, end in ((None, None), (1.0, 5.0), (1.9, 4.0)):
        decoded = decode(path, sample_rates_hz=[RATE_HZ], start_seconds=start, end_seconds=end)
        is_loud = np.array(loud(decoded.sound[RATE_HZ]))
        middles = (start or 0.0) + np.arange(len(is_loud)) / 10 + 0.05
        clear = (np.abs(middles - 2) > 0.15) & (middles < 11.8)
        np.testing.assert_array_equal(is_loud[clear], (middles > 2)[clear])


def test_an_interval_inside_a_gap_has_no_sound(tmp_path):
    path = write(tmp_path / "clip.mkv", "pcm_s16le", tenths((0, 3), (6, 12)))
    decoded = decode(path, sample_rates_hz=[RATE_HZ], start_seconds=4.0, end_seconds=5.0)
    assert decoded.failures == {"audio": "no sound could be decoded in the clip's interval"}


def collect(times: list[float], start: float = 0.0, end: float = np.inf, **settings: bool) -> np.ndarray:
    """Sound of pieces that begin at these times and hold their own number, in thousandths."""
    sound = Sound((RATE_HZ,), start, end, **({"stores_times": True} | settings))
    for number, time in enumerate(times, start=1):
        frame = av.AudioFrame.from_ndarray(np.full((1, PIECE), number / 1000, np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, round(time * RATE_HZ), Fraction(1, RATE_HZ)
        sound.add(frame, 0.0)
    assert sound.finish()
    return sound.sound[RATE_HZ]


def numbers(sound: np.ndarray) -> list[int]:
    """Number of each piece of the sound; 0 for silence."""
    return np.round(1000 * sound.reshape(-1, PIECE)[:, PIECE // 2]).astype(int).tolist()


STEADY = [0.02 * number for number in range(40)]


@pytest.mark.parametrize("jitter", [0.0, 0.001, 0.04])
def test_sound_without_gaps_is_joined_to_the_sample(jitter):
    times = [time + jitter * (number % 2) for number, time in enumerate(STEADY)]
    expected = np.repeat(np.arange(1, 41, dtype=np.float32) / 1000, PIECE)
    np.testing.assert_array_equal(collect(times), expected)


def test_a_gap_is_filled_to_the_sample():
    sound = collect(STEADY[:10] + [time + 1.0 for time in STEADY[10:]])
    assert numbers(sound) == [*range(1, 11), *[0] * 50, *range(11, 41)]


def test_packets_that_are_missing_one_by_one_are_made_up_for():
    times = [0.04 * number for number in range(40)]  # every second one is missing
    sound = collect(times)
    assert len(sound) / RATE_HZ == pytest.approx(times[-1] + 0.02, abs=0.12)


@pytest.mark.parametrize("wrong", [-3600.0, -0.3, 0.5, 30.0, 3600.0])
def test_one_wrong_timestamp_moves_nothing(wrong):
    times = [time + wrong * (number == 20) for number, time in enumerate(STEADY)]
    assert numbers(collect(times)) == list(range(1, 41))


def test_a_step_back_or_an_endless_gap_is_joined():
    assert numbers(collect(STEADY + STEADY)) == list(range(1, 81))
    far = [time + 2 * MAX_GAP_SECONDS for time in STEADY]
    assert numbers(collect(STEADY + far)) == list(range(1, 81))


def test_timestamps_that_are_not_stored_are_not_believed():
    times = STEADY[:20] + [time + 5.0 for time in STEADY[20:]]
    assert numbers(collect(times, stores_times=False)) == list(range(1, 41))
    wrong = [3 * time for time in STEADY]
    assert numbers(collect(wrong, 0.2, 0.6, stores_times=False, counts=True)) == list(range(11, 31))


@pytest.mark.parametrize("late", [0.06, 2.0])
def test_a_late_start_is_filled_to_the_sample(late):
    sound = collect([time + late for time in STEADY])
    assert len(sound) == round(late * RATE_HZ) + 40 * PIECE
    assert not sound[: round(late * RATE_HZ)].any()


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 7, 8, 12, 24])
def test_every_number_of_channels_is_averaged(tmp_path, channels):
    values = np.random.default_rng(channels).integers(-9999, 9999, (RATE_HZ, channels), dtype=np.int16)
    with wave_module.open(str(tmp_path / "clip.wav"), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(values.tobytes())
    sound = decode(tmp_path / "clip.wav", sample_rates_hz=[RATE_HZ]).sound[RATE_HZ]
    np.testing.assert_allclose(sound, (values / 32768).mean(1), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 3000), min_size=1, max_size=60),
    kind=st.sampled_from([("fltp", "mono"), ("fltp", "stereo"), ("s16", "stereo"), ("flt", "mono"), ("s32p", "5.1")]),
    rate_hz=st.sampled_from([8000, 16000, 22050, 44100, 48000]),
)
def test_sound_in_pieces_of_a_second_equals_that_frame_by_frame(lengths, kind, rate_hz):
    form, layout = kind
    num_channels = av.AudioLayout(layout).nb_channels
    values = np.random.default_rng(len(lengths)).uniform(-1, 1, (sum(lengths), num_channels)).astype(np.float32)
    if form.startswith("s"):
        values = (values * 32767).astype(np.int16 if form == "s16" else np.int32)

    def packed(frame):
        return frame.to_ndarray().reshape(-1, num_channels)

    def frames():
        for piece in np.split(values, np.cumsum(lengths)[:-1]):
            array = np.ascontiguousarray(piece.T if form.endswith("p") else piece.reshape(1, -1))
            frame = av.AudioFrame.from_ndarray(array, format=form, layout=layout)
            frame.sample_rate = rate_hz
            yield frame

    plain = AudioResampler("flt", None, RATE_HZ)
    pieces = [piece for frame in (*frames(), None) for piece in plain.resample(frame) if piece is not None]
    samples = np.concatenate([np.zeros((0, num_channels), np.float32), *map(packed, pieces)])
    expected = np.zeros(len(samples), np.float32)
    for channel in samples.T:
        expected += channel
    expected /= num_channels
    ours = Resampler(next(frames()), RATE_HZ)
    found = [_mono(piece) for frame in (*frames(), None) for piece in ours.push(frame)]
    assert [len(piece) for piece in found[:-1]] == [RATE_HZ] * (len(found) - 1)
    np.testing.assert_array_equal(
        np.concatenate([*found, []], dtype=np.float32).view(np.int32), expected.view(np.int32)
    )


def test_what_is_no_sound_is_silent_or_the_loudest():
    sound = np.array([np.nan, np.inf, -np.inf, 2.0, -0.5, -0.0, 0.25], np.float32)
    _clean(sound)
    np.testing.assert_array_equal(sound, np.array([0, 1, -1, 1, -0.5, -0.0, 0.25], np.float32))


def test_sound_in_a_file_equals_that_in_memory(monkeypatch):
    times = STEADY[:10] + [time + 1.0 for time in STEADY[10:]]
    expected = collect(times, 0.1)
    monkeypatch.setattr(spool, "MEMORY_BYTES", 5000)
    found = collect(times, 0.1)
    assert spool.mapping_of(found) is not None
    np.testing.assert_array_equal(found, expected)


def test_sound_that_is_too_long(tmp_path, monkeypatch):
    path = write(tmp_path / "clip.mkv", "pcm_s16le", tenths((0, 12)))
    monkeypatch.setattr(streams, "MAX_SOUND_SECONDS", 3.0)
    decoded = decode(path, samplings=[FrameSampling(num_frames=1)], sample_rates_hz=[RATE_HZ])
    assert not decoded.sound
    assert len(decoded.frames) == 1
    assert decoded.failures["audio"].startswith("the sound of a clip must be at most 0.000833333 hours long, got more.")
    assert decode(path, sample_rates_hz=[RATE_HZ], end_seconds=2.0).sound


def test_frames_are_reduced_once_as_they_come(tmp_path):
    path = write(tmp_path / "clip.mkv", "pcm_s16le", tenths((0, 2)), seconds=2.0)
    calls = []

    def red(image: np.ndarray) -> np.ndarray:
        calls.append(1)
        return image[::2, ::2, 0]

    def begin() -> Callable[[np.ndarray], np.ndarray]:
        return red

    sampling = FrameSampling(rate_hz=100)  # each frame is shown at four of the times
    decoded = decode(path, samplings=[sampling, Reduction(sampling, begin)])
    np.testing.assert_array_equal(decoded.frames[Reduction(sampling, begin)], decoded.frames[sampling][:, ::2, ::2, 0])
    assert len(calls) == 50


def test_frames_beyond_the_limits_are_errors_of_their_request(tmp_path, monkeypatch):
    path = write(tmp_path / "clip.mkv", "pcm_s16le", tenths((0, 2)), seconds=2.0)
    few, many, large = FrameSampling(num_frames=2), FrameSampling(rate_hz=2e5), FrameSampling(num_frames=9)
    monkeypatch.setattr(spool, "MAX_FRAMES_BYTES", 4 * 64 * 48 * 3)
    decoded = decode(path, samplings=[few, many, large])
    assert decoded.failures == {}
    assert set(decoded.frames) == {few}
    assert "a clip must give at most 200,000 frames, got 400,0" in str(decoded.frame_errors[many])
    assert "got 9 frames of 0.01 MiB. Lower rate=" in str(decoded.frame_errors[large])
