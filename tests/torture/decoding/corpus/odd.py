"""Odd media that are legal: sizes, pixels, rates, gaps, channels, turns, tracks, folders of images."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from .encode import Pictures, Sound, encode
from .recipes import Recipe, content, encoded

SIZES = ((1, 1), (2, 1), (1, 2), (3, 5), (17, 13), (8192, 2), (2, 8192), (16384, 16), (16, 16384), (4096, 4096))
PIXELS = {
    "libx264": ("yuv422p", "yuv444p", "yuv420p10le", "yuvj420p", "gray", "nv12"),
    "libx264rgb": ("rgb24",),
    "ffv1": ("rgb48le", "gray16le", "yuva420p", "yuv420p16le", "bgra", "gbrp16le", "yuv410p", "yuv411p"),
    "png": ("gray", "ya8", "rgba", "rgb48be", "monob", "gray16be"),
    "tiff": ("rgb24", "gray", "monow", "rgba64le", "ya8"),
    "rawvideo": ("uyvy422", "yuyv422", "rgb555le", "bgr8", "nv12", "abgr"),
    "libvpx-vp9": ("yuva420p", "yuv444p", "gbrp"),
    "mjpeg": ("yuvj444p", "yuvj422p", "yuvj420p"),
}
RATES_HZ = tuple(map(Fraction, (1, 5, 60, 240, 1000, "1/10", "30000/1001", "999/7")))
TICK = Fraction(1, 1000)
STAMPS = {
    "variable": (0, 10, 15, 200, 210, 900, 901, 902, 2000, 2500),
    "late": (100_000, 100_100, 100_200),
    "gap-1e4s": (0, 100, 10_000_000),
    "gap-1e6s": (0, 100, 1_000_000_000),
    "gap-1e9s": (0, 100, 1_000_000_000_000),
    "one": (0,),
}
SOUND_RATES_HZ = (1000, 4000, 7999, 11025, 96000, 192000, 384000, 768000)
LAYOUTS = ("mono", "stereo", "2.1", "3.0", "quad", "5.0", "5.1", "6.1", "7.1", "octagonal", "7.1.4", "22.2")


def odd(seed: int) -> Iterator[Recipe]:
    """Yield a recipe for every oddity."""
    yield from _pictures(seed)
    yield from _sound(seed)
    yield from _tracks(seed)
    yield from _folders(seed)


def _pictures(seed: int) -> Iterator[Recipe]:
    for width, height in SIZES:
        shape = {"size": (width, height), "num_frames": 2}
        for codec, container in (("ffv1", "matroska"), ("png", "image2pipe"), ("mjpeg", "avi"), ("libvpx-vp9", "webm")):
            tracks = Pictures(codec, **shape | ({"num_frames": 1} if codec == "png" else {}))
            yield encoded(f"size-{width}x{height}-{codec}", container, tracks, seed=seed)
    yield encoded("size-8192x4096.avi", "avi", Pictures("mjpeg", (8192, 4096), num_frames=2), seed=seed)
    for codec, names in PIXELS.items():
        for pixels in names:
            container = "image2pipe" if codec in ("png", "tiff") else "nut" if codec == "rawvideo" else "matroska"
            num_frames = 1 if container == "image2pipe" else 10
            yield encoded(
                f"pixels-{codec}-{pixels}", container, Pictures(codec, (64, 48), num_frames, pixels=pixels), seed=seed
            )
    for rate_hz in RATES_HZ:
        name = f"rate-{rate_hz.numerator}-{rate_hz.denominator}"
        yield encoded(f"{name}.mp4", "mp4", Pictures(rate_hz=rate_hz), seed=seed)
        yield encoded(f"{name}.mkv", "matroska", Pictures("mpeg4", rate_hz=rate_hz), seed=seed)
    for name, stamps in STAMPS.items():
        shape = {"num_frames": len(stamps), "stamps": stamps, "tick": TICK}
        yield encoded(f"stamps-{name}.mkv", "matroska", Pictures("mjpeg", **shape), seed=seed)
        yield encoded(f"stamps-{name}-sound.mkv", "matroska", Pictures("ffv1", **shape), Sound("flac"), seed=seed)
        yield encoded(f"stamps-{name}.mp4", "mp4", Pictures(**shape), seed=seed)
    for turn in range(8):
        yield Recipe(f"turned-{turn}.mp4", lambda path, turn=turn: _turned(path, turn, seed))


def _turned(path: Path, turn: int, seed: int) -> None:
    """Write an mp4 whose header turns the picture by a multiple of 90 degrees, and mirrors it from 4 on."""
    encode(path, "mp4", Pictures(num_frames=3), seed=seed)
    cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[turn % 4]
    matrix = [cos, sin, 0, -sin, cos, 0, 0, 0, 0x4000]
    if turn >= 4:
        matrix[0], matrix[3] = -matrix[0], -matrix[3]
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    data[place : place + 36] = struct.pack(">9i", *(each * 0x10000 for each in matrix))
    path.write_bytes(data)


def _sound(seed: int) -> Iterator[Recipe]:
    for rate_hz in SOUND_RATES_HZ:
        yield encoded(f"sound-at-{rate_hz}.wav", "wav", Sound("pcm_s16le", rate_hz), seed=seed)
        yield encoded(f"sound-at-{rate_hz}.flac", "flac", Sound("flac", rate_hz), seed=seed)
    for layout in LAYOUTS:
        for codec, container in (("pcm_s16le", "wav"), ("flac", "flac"), ("aac", "mp4"), ("libopus", "matroska")):
            sound = Sound(codec, 48000, layout, seconds=0.5)
            yield encoded(f"channels-{layout}-{codec}", container, sound, seed=seed)
            yield encoded(f"channels-{layout}-{codec}-pictures", "matroska", Pictures(), sound, seed=seed)
    for channels in range(1, 25):
        yield content(f"channels-{channels}.wav", wav(np.tile(_tone(channels), (channels, 1)).T))
    for seconds in (0.0, 1e-4, 0.01, 30.0):
        yield encoded(f"sound-of-{seconds}s.wav", "wav", Sound("pcm_s16le", seconds=seconds), seed=seed)
    for jump in (1, 1000, 1_000_000, 1_000_000_000):
        for codec, container in (("pcm_s16le", "matroska"), ("aac", "mp4"), ("libmp3lame", "nut"), ("libopus", "ogg")):
            sound = Sound(codec, 48000, jump_seconds=float(jump))
            yield encoded(f"silence-of-{jump}s-{codec}", container, sound, seed=seed)
    for name, value in (("nan", np.nan), ("inf", np.inf), ("huge", 3e38), ("zero", 0.0)):
        yield content(f"sound-all-{name}.wav", wav(np.full((8000, 1), value, "<f4")))


def _tone(channels: int) -> np.ndarray:
    return (8000 * np.sin(np.arange(8000) * 0.05 * (1 + channels / 10))).astype("<i2")


def wav(samples: np.ndarray, rate_hz: int = 16000, **lies: int) -> bytes:
    """A WAV file of samples `(samples, channels)`, int16 or float32.

    Args:
        samples: The samples.
        rate_hz: Sample rate in the header.
        lies: Header fields of another value: form, channels, rate, bytes_per_second, align, bits, size, whole.
    """
    bits = samples.itemsize * 8
    align = samples.itemsize * samples.shape[1]
    true = {"form": 3 if samples.dtype.kind == "f" else 1, "channels": samples.shape[1], "rate": rate_hz}
    true |= {"bytes_per_second": rate_hz * align, "align": align, "bits": bits}
    true |= {"size": samples.nbytes, "whole": samples.nbytes + 36}
    it = true | lies
    head = struct.pack(
        "<HHIIHH", *(it[key] for key in ("form", "channels", "rate", "bytes_per_second", "align", "bits"))
    )
    riff = b"RIFF" + struct.pack("<I", it["whole"]) + b"WAVEfmt " + struct.pack("<I", len(head)) + head
    return riff + b"data" + struct.pack("<I", it["size"]) + samples.tobytes()


def _tracks(seed: int) -> Iterator[Recipe]:
    sound, pictures = Sound("aac"), Pictures()
    yield encoded("tracks-3-sounds.mp4", "mp4", pictures, sound, Sound("aac", 48000, "stereo"), Sound("aac"), seed=seed)
    yield encoded("tracks-2-pictures.mkv", "matroska", pictures, Pictures("mpeg4", (64, 48)), sound, seed=seed)
    yield encoded("tracks-30-sounds.mkv", "matroska", *[Sound("flac", seconds=0.2)] * 30, seed=seed)
    yield encoded("tracks-subtitles.mp4", "mp4", pictures, sound, seed=seed, subtitles="mov_text")
    yield encoded("tracks-subtitles.mkv", "matroska", pictures, sound, seed=seed, subtitles="subrip")
    yield encoded("tracks-only-subtitles.mkv", "matroska", seed=seed, subtitles="subrip")
    yield encoded("tracks-long-pictures-short-sound.mp4", "mp4", Pictures(num_frames=50), Sound(seconds=0.1), seed=seed)
    yield encoded("tracks-short-pictures-long-sound.mp4", "mp4", Pictures(num_frames=1), Sound(seconds=9), seed=seed)
    fragments = {"movflags": "frag_keyframe+empty_moov"}
    yield encoded("tracks-fragments.mp4", "mp4", pictures, sound, seed=seed, options=fragments)
    yield encoded("tracks-index-first.mp4", "mp4", pictures, sound, seed=seed, options={"movflags": "faststart"})
    for container, codec in (("mp3", "libmp3lame"), ("flac", "flac"), ("ipod", "aac"), ("aiff", "pcm_s16be")):
        yield Recipe(
            f"cover.{container}", lambda path, form=container, codec=codec: _with_cover(path, form, codec, seed)
        )


def _with_cover(path: Path, container: str, codec: str, seed: int) -> None:
    """Write sound with a picture of its cover."""
    picture, sound = path.with_name(path.name + ".png"), path.with_name(path.name + ".mka")
    try:
        encode(picture, "image2pipe", Pictures("png", num_frames=1), seed=seed)
        encode(sound, "matroska", Sound(codec), seed=seed)
        options = {"fflags": "+bitexact"}
        with (
            path.open("wb") as file,
            av.open(file, "w", format=container, options=options) as output,
            av.open(picture) as cover,
            av.open(sound) as music,
        ):
            streams = [output.add_stream_from_template(each.streams[0]) for each in (cover, music)]
            streams[0].disposition = av.stream.Disposition.attached_pic
            for source, stream in zip((cover, music), streams, strict=True):
                for packet in source.demux(source.streams[0]):
                    if packet.size:
                        packet.stream = stream
                        output.mux(packet)
    finally:
        picture.unlink(missing_ok=True)
        sound.unlink(missing_ok=True)


def _folders(seed: int) -> Iterator[Recipe]:
    """Folders of images: usual, of several sizes and kinds, with what is no image, empty."""
    kinds = {"usual": [(64, 48)] * 5, "sizes": [(64, 48), (1, 1), (640, 480)], "empty": [], "one": [(64, 48)]}
    for name, sizes in kinds.items():
        yield Recipe(f"folder-{name}", lambda path, sizes=sizes: _folder(path, sizes, {}, seed))
    yield Recipe("folder-of-text", lambda path: _folder(path, [], {"a.png": b"text", "b.jpg": b""}, seed))
    yield Recipe("folder-mixed", lambda path: _folder(path, [(64, 48)] * 3, {"a.txt": b"x", "zz.png": b"x"}, seed))
    yield Recipe("folder-names", lambda path: _folder(path, [(64, 48)] * 2, {"im%d.png": b"x", "-x.png": b""}, seed))
    yield Recipe("folder-nested", lambda path: _folder(path / "inner", [(64, 48)] * 2, {}, seed))


def _folder(path: Path, sizes: list[tuple[int, int]], others: dict[str, bytes], seed: int) -> None:
    path.mkdir(parents=True)
    for index, size in enumerate(sizes):
        encode(path / f"{index}.png", "image2pipe", Pictures("png", size, num_frames=1), seed=seed + index)
    for name, data in others.items():
        (path / name).write_bytes(data)
