"""Encoded forms: every encoder in a container, every container with its own encoders, and common pairs."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from functools import partial
from pathlib import Path

import av

from .encode import Pictures, Sound, encode
from .recipes import Recipe, encoded

# Containers that hold most encodings, the most telling first; "image2pipe" is a file of one picture.
FOR_SOUND = ("wav", "mov", "matroska", "avi", "nut", "ogg", "flv", "asf", "rm", "swf", "mpegts", "caf", "aiff", "mxf")
FOR_PICTURES = ("mov", "matroska", "avi", "nut", "mpegts", "flv", "asf", "rm", "swf", "mxf", "image2pipe")
COMMON = ("mp4", "mov", "matroska", "webm", "avi", "mpegts", "mpeg", "flv", "asf", "ogg", "nut", "3gp", "wtv", "gxf")
COMMON_PAIRS = (
    *(("libx264", "aac"), ("libx265", "ac3"), ("libvpx", "vorbis"), ("libvpx-vp9", "libopus"), ("mpeg4", "libmp3lame")),
    *(("mpeg2video", "mp2"), ("mjpeg", "pcm_s16le"), ("ffv1", "flac"), ("wmv2", "wmav2"), ("libsvtav1", "alac")),
)
SIZES = ((176, 144), (720, 576), (1920, 1080), (48, 48), (320, 200))  # some encoders know only one
LAYOUTS = ("mono", "stereo", "5.1", "4.0")
RATES_HZ = (16000, 8000, 44100, 48000, 32000, 22050)
# They write to a device, to a host, several files, or nothing that can be read.
NOT_A_FILE = {
    *("alsa", "pulse", "oss", "sndio", "fbdev", "video4linux2,v4l2", "xv", "sdl,sdl2", "opengl", "caca"),
    *("rtp", "rtp_mpegts", "rtsp", "sap", "tee", "fifo", "null", "whip", "hls", "dash", "hds", "smoothstreaming"),
    *("segment", "stream_segment,ssegment", "webm_chunk", "webm_dash_manifest", "image2", "image2pipe", "data"),
}
ONE_PICTURE = (
    *("alias_pix", "apng", "bmp", "dpx", "exr", "fits", "gif", "hdr", "jpeg2000", "jpegls", "libwebp", "ljpeg"),
    *("mjpeg", "pam", "pbm", "pcx", "pfm", "pgm", "pgmyuv", "phm", "png", "ppm", "qoi", "sgi", "sunrast", "targa"),
    *("tiff", "vbn", "wbmp", "xbm", "xface", "xwd"),
)
ELSEWHERE = ("_amf", "_nvenc", "_qsv", "_v4l2m2m")  # encoders of graphics cards


def forms(seed: int) -> Iterator[Recipe]:
    """Yield a recipe for every form that can be tried."""
    for name in sorted(av.codecs_available):
        with suppress(ValueError):  # it is a decoder alone
            codec = av.codec.Codec(name, "w")
            if codec.type == "audio":
                yield _first(f"sound-{name}", FOR_SOUND, sounds(codec), seed)
            elif codec.type == "video" and not name.endswith(ELSEWHERE):
                yield _first(f"pictures-{name}", FOR_PICTURES, pictures(codec), seed)
    for name in ONE_PICTURE:
        codec = av.codec.Codec(name, "w")
        yield _first(f"picture-{name}", ("image2pipe", name), pictures(codec, num_frames=1), seed)
    for name in sorted(av.formats_available - NOT_A_FILE):
        with suppress(ValueError):  # it can only be read
            av.format.ContainerFormat(name, "w")
            yield Recipe(f"container-{name}", partial(_with_defaults, container=name, seed=seed))
    for container, (video, audio) in itertools.product(COMMON, COMMON_PAIRS):
        tracks = Pictures(video, rate_hz=Fraction(25), num_frames=25), Sound(audio, 48000, "stereo")
        yield encoded(f"pair-{video}-{audio}.{container}", container, *tracks, seed=seed)


def sounds(codec: av.Codec) -> list[Sound]:
    """The shapes in which an encoder may take sound."""
    rates_hz = [rate for rate in RATES_HZ if rate in (codec.audio_rates or RATES_HZ)] or codec.audio_rates[:1]
    return [Sound(codec.name, rate_hz, layout) for layout in LAYOUTS for rate_hz in rates_hz[:3]]


def pictures(codec: av.Codec, num_frames: int = 10) -> list[Pictures]:
    """The shapes in which an encoder may take pictures."""
    rates_hz = [Fraction(10), Fraction(25)]
    return [Pictures(codec.name, size, num_frames, rate_hz) for size in SIZES for rate_hz in rates_hz]


def _first(name: str, containers: tuple[str, ...], tracks: list[Sound] | list[Pictures], seed: int) -> Recipe:
    """A recipe for the first container and the first shape that can be written."""

    def make(path: Path) -> None:
        for track, container in itertools.product(tracks, containers):
            with suppress(Exception):
                return encode(path, container, track, seed=seed)
        raise ValueError(f"nothing here can write {name}")

    return Recipe(name, make)


def _with_defaults(path: Path, container: str, seed: int) -> None:
    """Write a container with the encoders that it proposes."""
    with av.open(io.BytesIO(), "w", format=container) as output:
        names = output.default_video_codec, output.default_audio_codec
    codecs = [av.codec.Codec(name, "w") if name != "none" else None for name in names]
    video = [] if codecs[0] is None else pictures(codecs[0])
    audio = [] if codecs[1] is None else sounds(codecs[1])
    for tracks in [*zip(video, audio, strict=False), *((each,) for each in [*video, *audio])]:
        with suppress(Exception):
            return encode(path, container, *tracks, seed=seed)
    raise ValueError(f"nothing here can write {container}")
