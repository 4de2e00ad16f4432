"""Seeking and skipping frames, against decoding everything from the start, for all that can be encoded here."""

import math
import struct
from pathlib import Path

import av
import numpy as np
import pytest

from amr.extract.media import clip as clip_module
from amr.extract.media import container, streams
from amr.extract.media.decode import decode
from amr.extract.media.sampling import FrameSampling
from amr.extract.media.seeking import SKIPPABLE_CODECS, Step, steps_to
from amr.extract.media.streams import Pictures

FPS, NUM_FRAMES = 25, 120
SAMPLINGS = (FrameSampling(rate_hz=4), FrameSampling(num_frames=5))
QUIET_X265 = {"preset": "ultrafast", "x265-params": "bframes=4:log-level=none"}
VIDEO = [
    *(
        (suffix, "libx264", {"bf": "3", "preset": "ultrafast"})
        for suffix in ("mp4", "mkv", "ts", "flv", "avi", "asf", "mxf")
    ),
    ("mp4", "libx264", {"bf": "3", "preset": "ultrafast", "flags": "+ildct+ilme"}),
    ("ts", "libx264", {"bf": "3", "preset": "ultrafast", "x264-params": "open-gop=1"}),
    ("ts", "libx264", {"bf": "0", "preset": "ultrafast", "x264-params": "intra-refresh=1"}),
    *((suffix, "libx265", QUIET_X265) for suffix in ("mp4", "mkv", "ts")),
    *((suffix, "libsvtav1", {"preset": "12"}) for suffix in ("mp4", "mkv", "obu")),
    ("webm", "libvpx", {"deadline": "good", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "16"}),
    ("webm", "libvpx-vp9", {"deadline": "good", "cpu-used": "8", "auto-alt-ref": "6", "lag-in-frames": "25"}),
    *((suffix, "mpeg4", {"bf": "2"}) for suffix in ("mp4", "avi", "mkv", "ts")),
    *((suffix, codec, {"bf": "2"}) for codec in ("mpeg1video", "mpeg2video") for suffix in ("mpg", "ts", "mkv", "avi")),
    *((suffix, "h263", {}) for suffix in ("avi", "mov")),
    ("flv", "flv", {}),
    ("wmv", "wmv2", {}),
    ("avi", "msmpeg4", {}),
    ("mov", "svq1", {}),
    ("mov", "prores", {}),
    ("avi", "mjpeg", {}),
    ("mkv", "ffv1", {}),
    ("mkv", "snow", {}),
    ("rm", "rv20", {}),
    ("gif", "gif", {}),
    ("flv", "flashsv", {}),
]
INTERVALS = ({}, {"start_seconds": 2.1, "end_seconds": 3.5}, {"start_seconds": 4.3})

SECONDS, START = 6, 4.0
SOUND = {
    "pcm_s16le": ("wav", "w64", "caf", "avi", "mkv", "mov"),
    "pcm_s16be": ("aiff", "au", "caf"),
    "pcm_s24le": ("wav",),
    "pcm_mulaw": ("au", "mov"),
    "adpcm_ms": ("wav", "w64", "avi", "wma"),
    "adpcm_ima_wav": ("wav", "avi", "caf"),
    "adpcm_ima_qt": ("mov", "aiff"),
    "adpcm_swf": ("flv", "wav"),
    "libmp3lame": ("mp3", "mkv", "avi", "wav", "flv"),
    "aac": ("aac", "m4a", "ts", "flv", "avi"),
    "ac3": ("ac3", "avi", "mkv", "mpg", "wav"),
    "eac3": ("avi", "mov"),
    "mp2": ("mp2", "mpg", "avi", "wav"),
    "flac": ("flac", "ogg", "mkv", "wav", "wma"),
    "alac": ("m4a", "caf", "mkv"),
    "libopus": ("opus", "webm", "ts"),
    "vorbis": ("ogg", "mkv"),
    "wavpack": ("wv", "mkv"),
    "tta": ("tta", "mkv"),
    "wmav1": ("wma", "avi"),
    "wmav2": ("wma", "wav"),
    "libopencore_amrnb": ("amr", "mov", "wav"),
    "g722": ("wav", "avi"),
    "nellymoser": ("flv",),
}


def open_encoder(container: av.container.OutputContainer, codec: str, **settings: object) -> av.stream.Stream:
    try:
        return container.add_stream(codec, **settings)
    except (av.FFmpegError, ValueError) as error:
        pytest.skip(f"the bundled FFmpeg cannot encode {codec} into this format: {error}")


def render(path: Path, codec: str, options: dict[str, str]) -> Path:
    """A clip of a bright square that moves over a background that grows brighter."""
    with av.open(str(path), "w") as container:
        stream = open_encoder(container, codec, rate=FPS)
        formats = [each.name for each in stream.codec_context.codec.video_formats or []]
        stream.width, stream.height, stream.gop_size = 128, 96, 30
        stream.pix_fmt = "yuv420p" if "yuv420p" in formats or not formats else formats[0]
        stream.options = {"strict": "-2"} | options
        for number in range(NUM_FRAMES):
            image = np.full((96, 128, 3), number, np.uint8)
            image[8:40, number % 96 : number % 96 + 32] = 255
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(("suffix", "codec", "options"), VIDEO)
def test_frames_are_those_of_decoding_everything(tmp_path, suffix, codec, options, monkeypatch):
    path = render(tmp_path / f"clip.{suffix}", codec, options)
    ours = [[decode(path, samplings=[each], **interval) for each in SAMPLINGS] for interval in INTERVALS]
    monkeypatch.setattr(clip_module, "can_skip_frames", lambda *_: False)
    monkeypatch.setattr(clip_module, "seeks_exactly", lambda *_: False)
    monkeypatch.setattr(container, "KEPT_BYTES", -1)  # every packet is read a second time
    for interval, fast in zip(INTERVALS, ours, strict=True):
        everything = decode(path, samplings=SAMPLINGS, **interval)
        assert everything.failures == {}
        for sampling, decoded in zip(SAMPLINGS, fast, strict=True):
            np.testing.assert_array_equal(decoded.frame_seconds[sampling], everything.frame_seconds[sampling])
            np.testing.assert_array_equal(decoded.frames[sampling], everything.frames[sampling])


JUMPS = [("mpg", "mpeg1video", {"bf": "0"}), ("ts", "mpeg2video", {"bf": "2"}), ("mkv", "libx264", {"bf": "2"})]


@pytest.mark.parametrize(("suffix", "codec", "options"), JUMPS)
def test_packets_between_a_needed_frame_and_a_key_packet_are_left_out(tmp_path, monkeypatch, suffix, codec, options):
    path = render(tmp_path / f"clip.{suffix}", codec, options)
    sampling = FrameSampling(num_frames=2)
    numbers = np.floor(sampling.times(0, NUM_FRAMES / FPS) * FPS + 1e-6)
    steps: list[int | None] = []
    step = Pictures.step
    monkeypatch.setattr(Pictures, "step", lambda *args: steps.append(step(*args)) or steps[-1])
    decoded = decode(path, samplings=[sampling])
    np.testing.assert_allclose(decoded.frames[sampling][:, 60:].mean((1, 2, 3)), numbers, atol=6)
    assert Step.BEGIN in steps
    assert steps.count(Step.DECODE) < NUM_FRAMES / 2
    monkeypatch.setattr(clip_module, "can_skip_frames", lambda *_: False)
    np.testing.assert_array_equal(decoded.frames[sampling], decode(path, samplings=[sampling]).frames[sampling])


def test_a_key_packet_that_gives_no_frame_is_not_jumped_to(tmp_path, monkeypatch):
    path = render(tmp_path / "clip.mkv", "libx264", {"bf": "0", "preset": "ultrafast"})
    sampling = FrameSampling(num_frames=2)
    everything = decode(path, samplings=[sampling])
    made = []

    def wrong(stamps, keys, needed):  # a packet in the middle is taken for a key packet
        made.append(1)
        middle = np.flatnonzero(needed)[-1] - 2
        return steps_to(stamps, np.arange(len(stamps)) == middle, needed)

    monkeypatch.setattr(streams, "steps_to", wrong)
    decoded = decode(path, samplings=[sampling])
    assert made == [1]
    np.testing.assert_array_equal(decoded.frames[sampling], everything.frames[sampling])


def test_every_codec_whose_frames_are_skipped_is_tested_above(tmp_path):
    tested = set()
    for suffix, codec, options in VIDEO:
        if codec.removeprefix("lib")[:4] in ("x264", "x265", "vpx", "vpx-", "mpeg"):
            with av.open(str(render(tmp_path / f"{codec}.{suffix}", codec, options))) as container:
                tested.add(container.streams.video[0].codec_context.name)
    assert tested >= SKIPPABLE_CODECS


@pytest.mark.parametrize("suffix", ["avi", "asf", "mxf", "mp4"])
def test_frames_that_are_coded_in_another_order_are_shown_in_theirs(tmp_path, suffix):
    path = render(tmp_path / f"clip.{suffix}", "libx264", {"bf": "3", "preset": "ultrafast"})
    sampling = FrameSampling(rate_hz=FPS)
    decoded = decode(path, samplings=[sampling])
    brightness = decoded.frames[sampling][:, 60:].mean((1, 2, 3))
    assert len(brightness) >= NUM_FRAMES
    np.testing.assert_allclose(brightness[:NUM_FRAMES], np.arange(NUM_FRAMES), atol=2)
    assert (np.diff(brightness) >= 0).all()


@pytest.mark.parametrize("start", [3.1, 4.3, 4.7])
def test_the_last_group_of_pictures_of_a_transport_stream(tmp_path, start):
    path = render(tmp_path / "clip.ts", "libx264", {"bf": "3", "preset": "ultrafast", "g": "1000"})
    sampling = FrameSampling(num_frames=3)
    decoded = decode(path, samplings=[sampling], start_seconds=start)
    assert decoded.failures == {}
    numbers = np.floor(sampling.times(start, NUM_FRAMES / FPS) * FPS + 1e-6)
    np.testing.assert_allclose(decoded.frames[sampling][:, 60:].mean((1, 2, 3)), numbers, atol=6)


def noise(rate_hz: int, seconds: int = SECONDS) -> np.ndarray:
    """Noise below 1 kHz, different at every time."""
    coarse = np.random.default_rng(0).normal(size=2000 * seconds)
    time = np.arange(rate_hz * seconds) / rate_hz
    return (0.2 * np.interp(time * 2000, np.arange(len(coarse)), coarse)).clip(-1, 1).astype(np.float32)


def write_sound(path: Path, codec: str, seconds: int = SECONDS) -> int:
    """Write noise to a file. Returns its sample rate."""
    rates = [8000] if "amr" in codec else av.Codec(codec, "w").audio_rates or [44100]
    rate_hz = 44100 if 44100 in rates else max(rates)
    with av.open(str(path), "w", format="adts" if path.suffix == ".aac" else None) as container:
        stream = open_encoder(container, codec, rate=rate_hz, layout="stereo" if codec == "vorbis" else "mono")
        stream.options = {"strict": "-2"}
        if codec.startswith("wma"):
            stream.bit_rate = 128_000
        wave = noise(rate_hz, seconds)
        samples = np.stack([wave] * len(stream.layout.channels))
        for first in range(0, len(wave), 4410):
            piece = np.ascontiguousarray(samples[:, first : first + 4410])
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=stream.layout.name)
            frame.sample_rate, frame.pts = rate_hz, first
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return rate_hz


def lag_seconds(whole: np.ndarray, part: np.ndarray, rate_hz: int) -> float:
    """Where in the whole the part is found."""
    size = 2 ** math.ceil(math.log2(len(whole) + len(part)))
    product = np.fft.irfft(np.fft.rfft(whole, size) * np.conj(np.fft.rfft(part, size)), size)
    return int(np.argmax(product[: len(whole)])) / rate_hz


@pytest.mark.parametrize(("codec", "suffix"), [(codec, suffix) for codec, all_of in SOUND.items() for suffix in all_of])
def test_sound_of_an_interval_is_that_of_its_time(tmp_path, codec, suffix):
    path = tmp_path / f"clip.{suffix}"
    try:
        rate_hz = write_sound(path, codec)
    except (av.FFmpegError, ValueError) as error:
        pytest.skip(f"the bundled FFmpeg cannot encode {codec} into {suffix}: {error}")
    decoded = decode(path, sample_rates_hz=[rate_hz], start_seconds=START, end_seconds=START + 1.5)
    assert decoded.failures == {}
    part = decoded.sound[rate_hz]
    assert len(part) == round(1.5 * rate_hz)
    if "amr" not in codec:  # which is made for voices only
        assert lag_seconds(noise(rate_hz), part, rate_hz) == pytest.approx(START, abs=0.05)  # delays of codecs
    whole = decode(path, sample_rates_hz=[rate_hz]).sound[rate_hz]
    assert lag_seconds(whole, part, rate_hz) == pytest.approx(START, abs=0.03)


@pytest.mark.parametrize(("codec", "suffix"), [("adpcm_ms", "wav"), ("adpcm_ima_wav", "wav"), ("adpcm_ima_wav", "caf")])
def test_sound_of_a_late_interval_is_that_of_its_time(tmp_path, codec, suffix):
    rate_hz = write_sound(tmp_path / f"clip.{suffix}", codec, seconds=40)
    decoded = decode(tmp_path / f"clip.{suffix}", sample_rates_hz=[rate_hz], start_seconds=30.0, end_seconds=32.0)
    assert lag_seconds(noise(rate_hz, 40), decoded.sound[rate_hz], rate_hz) == pytest.approx(30.0, abs=0.05)


@pytest.mark.parametrize("rate", [0, 1000, 22050, 44100 * 8])
def test_a_header_with_a_wrong_rate_of_bytes_does_not_move_the_sound(tmp_path, rate):
    path = tmp_path / "clip.wav"
    rate_hz = write_sound(path, "pcm_s16le")
    whole = decode(path, sample_rates_hz=[rate_hz]).sound[rate_hz]
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.find(b"fmt ") + 16, rate)
    path.write_bytes(content)
    part = decode(path, sample_rates_hz=[rate_hz], start_seconds=START, end_seconds=START + 1).sound[rate_hz]
    first = round(START * rate_hz)
    np.testing.assert_allclose(part, whole[first : first + rate_hz], atol=1e-6)
