"""Which of several streams of a kind is read, and what FFmpeg is told about the file."""

import io
import os
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition
from PIL import Image

from amr.extract.encoders import Prepare
from amr.extract.media import clip as clip_module
from amr.extract.media import container as container_module
from amr.extract.media.container import KeptPackets, _Nameless, open_media, packets
from amr.extract.media.decode import decode
from amr.extract.media.sampling import FrameSampling
from amr.extract.pipeline.load import ClipFiles, load

RATE_HZ = 16000
PITCHES_HZ = (300, 1000, 2000)
ONE = FrameSampling(num_frames=1)


def write(path: Path, *, audio_default: int | None = None, video_default: int | None = None) -> Path:
    """A clip with three sound tracks of different pitch and two pictures of different brightness."""
    with av.open(str(path), "w") as container:
        pictures = [container.add_stream("mpeg4", rate=25) for _ in range(2)]
        sounds = [container.add_stream("aac", rate=RATE_HZ, layout="mono") for _ in PITCHES_HZ]
        for streams, default in ((pictures, video_default), (sounds, audio_default)):
            for at, stream in enumerate(streams):
                stream.disposition = Disposition.default if at == default else Disposition(0)
        for stream in pictures:
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(25):
            for stream, value in zip(pictures, (40, 200), strict=True):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), value, np.uint8), format="rgb24")
                frame.pts = number
                container.mux(stream.encode(frame))
        time = np.arange(RATE_HZ) / RATE_HZ
        for stream, pitch_hz in zip(sounds, PITCHES_HZ, strict=True):
            wave = (0.4 * np.sin(2 * np.pi * pitch_hz * time)).astype(np.float32)
            piece = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
            piece.sample_rate, piece.pts = RATE_HZ, 0
            container.mux(stream.encode(piece))
        for stream in (*pictures, *sounds):
            container.mux(stream.encode())
    return path


def pitch_hz(path: Path, audio_track: int | None = None) -> int:
    sound = decode(path, sample_rates_hz=[RATE_HZ], audio_track=audio_track).sound[RATE_HZ][:RATE_HZ]
    return round(int(np.abs(np.fft.rfft(sound * np.hanning(len(sound)), n=RATE_HZ)).argmax()) / 100) * 100


@pytest.mark.parametrize("default", [0, 1, 2])
def test_the_default_sound_track_is_read_or_the_requested_one(tmp_path, default):
    path = write(tmp_path / "clip.mkv", audio_default=default)
    assert pitch_hz(path) == PITCHES_HZ[default]
    assert [pitch_hz(path, track) for track in range(3)] == list(PITCHES_HZ)


def test_without_a_default_track_the_first_is_read(tmp_path):
    path = write(tmp_path / "clip.mkv")
    assert pitch_hz(path) == PITCHES_HZ[0]
    assert decode(path, samplings=[ONE]).frames[ONE].mean() < 100


def test_the_default_pictures_are_read(tmp_path):
    path = write(tmp_path / "clip.mkv", video_default=1)
    assert decode(path, samplings=[ONE]).frames[ONE].mean() > 150


def test_a_track_that_the_file_lacks_is_a_failure(tmp_path):
    path = write(tmp_path / "clip.mkv")
    decoded = decode(path, samplings=[ONE], sample_rates_hz=[RATE_HZ], audio_track=3)
    assert decoded.failures == {"audio": "there is no audio track 3: the file has 3, counted from 0"}
    assert decoded.has_audio
    assert decoded.frames[ONE].shape == (1, 48, 64, 3)
    with pytest.raises(ValueError, match="audio_track must be at least 0, got -1"):
        decode(path, sample_rates_hz=[RATE_HZ], audio_track=-1)


def test_workers_read_the_track_of_a_clip(tmp_path):
    class Waveform(Prepare):
        sample_rate_hz = RATE_HZ

        def __call__(self, media: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(media)

    path = write(tmp_path / "clip.mkv")
    for track in (None, 2):
        loaded = load(ClipFiles({"audio": path}, audio_track=track), {"a": "audio"}, {"a": Waveform()})
        expected = decode(path, sample_rates_hz=[RATE_HZ], audio_track=track).sound[RATE_HZ]
        np.testing.assert_array_equal(loaded.inputs["a"].numpy(), expected)


def test_a_damaged_file_that_points_before_its_start_prints_nothing():
    file = _Nameless(io.BytesIO(b"media"))
    assert file.seek(-5) < 0
    assert file.seek(2) == 2
    assert file.read() == b"dia"


def contents(packet: av.Packet) -> tuple:
    return packet.stream_index, packet.pts, packet.dts, packet.duration, packet.is_keyframe, bytes(packet)


@pytest.mark.parametrize("num_seen", [0, 7, 1000])
def test_kept_packets_are_those_of_the_file(tmp_path, num_seen):
    with open_media(write(tmp_path / "clip.mkv")) as container:
        expected = list(map(contents, packets(container, container.streams.audio)))
    with open_media(tmp_path / "clip.mkv") as container:
        kept = KeptPackets(container, container.streams.audio)
        assert list(map(contents, islice(kept, num_seen))) == expected[:num_seen]
        assert list(map(contents, kept.again())) == expected


@pytest.mark.parametrize(("limit", "value"), [("KEPT_BYTES", 5000), ("PACKET_BYTES", 1 << 20)])
def test_packets_are_kept_up_to_a_limit(tmp_path, monkeypatch, limit, value):
    path = write(tmp_path / "clip.mkv")
    decoded = decode(path, samplings=[ONE], sample_rates_hz=[RATE_HZ])
    monkeypatch.setattr(container_module, limit, value)
    with open_media(path) as container:
        kept = KeptPackets(container, container.streams.audio)
        assert len(list(kept)) > 10
        assert kept.again() is None
    opened = []
    monkeypatch.setattr(clip_module, "open_media", lambda path: opened.append(path) or open_media(path))
    again = decode(path, samplings=[ONE], sample_rates_hz=[RATE_HZ])
    assert len(opened) == 2
    np.testing.assert_array_equal(again.frames[ONE], decoded.frames[ONE])
    np.testing.assert_array_equal(again.sound[RATE_HZ], decoded.sound[RATE_HZ])


def test_what_was_read_counts_even_if_packets_are_small(tmp_path, monkeypatch):
    with open_media(write(tmp_path / "clip.mkv")) as container:
        kept = KeptPackets(container, container.streams.audio)
        container.file.file.num_read += container_module.KEPT_BYTES + 1
        list(kept)
        assert kept.again() is None


@pytest.mark.parametrize(("size", "embedded"), [((6000, 4000), True), ((6000, 5000), False)])
def test_an_image_may_have_the_pixels_of_a_camera(tmp_path, size, embedded):
    Image.new("RGB", size, "red").save(tmp_path / "x.jpg")
    sampling = FrameSampling(num_frames=1)
    decoded = decode(tmp_path / "x.jpg", samplings=[sampling])
    assert [*decoded.frames] == [sampling] * embedded
    assert embedded == (decoded.failures == {})
    assert embedded or "more than 26,214,400 pixels" in decoded.failures["video"]


def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "x.mp4")
    decoded = decode(tmp_path / "x.mp4", sample_rates_hz=[16000])
    assert decoded.failures == {"audio": "the file cannot be opened: it is no regular file"}
