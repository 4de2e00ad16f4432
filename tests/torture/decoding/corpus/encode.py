"""One media file from tracks of pictures and sound, in any form that the bundled FFmpeg writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from amr.data_manifests.synthetic_media import render_frames, render_waveform

NUM_CLASSES = 6
CHUNK_SAMPLES = 1024
BIT_RATES = {"wmav1": 64000, "wmav2": 64000, "g723_1": 6300, "dnxhd": 36_000_000}  # those without a default

# x264 is not the same to the bit each time without these.
X264 = {"preset": "ultrafast", "crf": "23"}
OPTIONS = {"libx264": X264, "h264": X264, "libx264rgb": X264}


@dataclass(frozen=True)
class Pictures:
    """A track of rendered pictures.

    Attributes:
        codec: Name of the encoder.
        size: Width and height.
        num_frames, rate_hz: Number and rate of the pictures.
        pixels: Pixel format, None for the encoder's first.
        stamps: Time of each picture in ticks of `tick`; None for a constant rate.
        tick: Unit of the stamps in seconds.
        options: Options of the encoder.
    """

    codec: str = "libx264"
    size: tuple[int, int] = (176, 144)
    num_frames: int = 10
    rate_hz: Fraction = Fraction(10)
    pixels: str | None = None
    stamps: tuple[int, ...] | None = None
    tick: Fraction | None = None
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sound:
    """A track of rendered sound.

    Attributes:
        codec: Name of the encoder.
        rate_hz: Sample rate.
        layout: Layout of the channels.
        seconds: Length.
        samples: Sample format, None for the encoder's first.
        jump_seconds: Silence of the timestamps before the second half.
    """

    codec: str = "aac"
    rate_hz: int = 16000
    layout: str = "mono"
    seconds: float = 1.0
    samples: str | None = None
    jump_seconds: float = 0.0


def encode(
    path: Path,
    container: str,
    *tracks: Pictures | Sound,
    seed: int,
    options: Mapping[str, str] | None = None,
    subtitles: str = "",
) -> None:
    """Write a file; the same arguments give the same bytes.

    Args:
        path: File to write.
        container: FFmpeg's name of the format.
        tracks: Tracks, in the order of the file.
        seed: Seed of what is rendered.
        options: Options of the container.
        subtitles: Codec of a track of subtitles, "" for none.
    """
    rng = np.random.default_rng(seed)
    cue = int(rng.integers(NUM_CLASSES))
    # An open file, not a name: no container may write a second one.
    with (
        path.open("wb") as file,
        av.open(file, "w", format=container, options={"fflags": "+bitexact", **(options or {})}) as output,
    ):
        streams = [_stream(output, track) for track in tracks]
        words = output.add_stream(subtitles) if subtitles else None
        if words is not None:
            words.codec_context.subtitle_header = b""
        for stream, track in zip(streams, tracks, strict=True):
            for frame in _frames(track, rng, cue):
                output.mux(stream.encode(frame))
        if words is not None:
            packet = av.Packet(b"\0\x05words" if subtitles == "mov_text" else b"words")
            packet.stream, packet.pts, packet.duration, packet.time_base = words, 0, 500, Fraction(1, 1000)
            output.mux(packet)
        for stream in streams:
            output.mux(stream.encode(None))


def _stream(output: Any, track: Pictures | Sound) -> Any:
    if isinstance(track, Pictures):
        stream = output.add_stream(
            track.codec, rate=track.rate_hz, options={**OPTIONS.get(track.codec, {}), **track.options}
        )
        stream.width, stream.height = track.size
        formats = stream.codec_context.codec.video_formats
        names = [each.name for each in formats or () if each.name != "pal8"]  # into which nothing is converted
        stream.pix_fmt = track.pixels or (names[0] if names else "yuv420p")
        stream.codec_context.thread_count = 1
        if track.tick is not None:
            stream.codec_context.time_base = track.tick
            stream.time_base = track.tick
    else:
        stream = output.add_stream(track.codec, rate=track.rate_hz, layout=track.layout)
        formats = stream.codec_context.codec.audio_formats
        stream.format = track.samples or (formats[0].name if formats else "s16")
    if track.codec in BIT_RATES:
        stream.bit_rate = BIT_RATES[track.codec]
    stream.codec_context.options = {**stream.codec_context.options, "strict": "experimental", "flags": "+bitexact"}
    return stream


def _frames(track: Pictures | Sound, rng: np.random.Generator, cue: int) -> Any:
    if isinstance(track, Pictures):
        width, height = track.size
        side = min(128, max(width, height))
        pictures = render_frames(rng, cue, NUM_CLASSES, min(track.num_frames, 10), side)
        for index in range(track.num_frames):
            frame = av.VideoFrame.from_ndarray(pictures[index % len(pictures)], format="rgb24")
            frame = frame.reformat(width, height)
            frame.pts = index if track.stamps is None else track.stamps[index]
            frame.time_base = track.tick or 1 / track.rate_hz
            yield frame
        return
    num_samples = round(track.seconds * track.rate_hz)
    waveform = render_waveform(rng, cue, NUM_CLASSES, num_samples, track.rate_hz)
    channels = av.AudioLayout(track.layout).nb_channels
    for start in range(0, num_samples, CHUNK_SAMPLES):
        part = np.ascontiguousarray(np.tile(waveform[start : start + CHUNK_SAMPLES, None], channels).reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(part, format="flt", layout=track.layout)
        late = track.jump_seconds * track.rate_hz if start * 2 >= num_samples else 0
        frame.sample_rate, frame.pts, frame.time_base = track.rate_hz, round(start + late), Fraction(1, track.rate_hz)
        yield frame
