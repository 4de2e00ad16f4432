"""Broken media: cut off, flipped, with headers that lie. Each is made from a file of the corpus that is whole."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from .encode import Pictures, Sound, encode
from .odd import wav
from .recipes import Recipe, content

# Name -> container and tracks of the files that are damaged.
WHOLE: dict[str, tuple[str, tuple[Pictures | Sound, ...]]] = {
    "h264.mp4": ("mp4", (Pictures(), Sound("aac"))),
    "prores.mov": ("mov", (Pictures("prores_ks"), Sound("pcm_s16le"))),
    "vp9.webm": ("webm", (Pictures("libvpx-vp9"), Sound("libopus", 48000))),
    "ffv1.mkv": ("matroska", (Pictures("ffv1"), Sound("flac"))),
    "mpeg4.avi": ("avi", (Pictures("mpeg4"), Sound("libmp3lame"))),
    "mpeg2.ts": ("mpegts", (Pictures("mpeg2video", rate_hz=Pictures().rate_hz * 5 / 2), Sound("mp2"))),
    "flv1.flv": ("flv", (Pictures("flv"), Sound("libmp3lame", 44100))),
    "wmv2.asf": ("asf", (Pictures("wmv2"), Sound("wmav2"))),
    "h265.mp4": ("mp4", (Pictures("libx265"), Sound("alac"))),
    "sound.wav": ("wav", (Sound("pcm_s16le"),)),
    "sound.flac": ("flac", (Sound("flac"),)),
    "sound.ogg": ("ogg", (Sound("vorbis"),)),
    "sound.mp3": ("mp3", (Sound("libmp3lame"),)),
    "sound.m4a": ("ipod", (Sound("aac"),)),
    "picture.png": ("image2pipe", (Pictures("png", num_frames=1),)),
    "picture.jpg": ("image2pipe", (Pictures("mjpeg", num_frames=1),)),
    "moving.gif": ("gif", (Pictures("gif"),)),
    "picture.webp": ("webp", (Pictures("libwebp", num_frames=1),)),
}
PARTS = (0.01, 0.1, 0.5, 0.9, 0.999)
SHARES = (1e-4, 1e-3, 1e-2)
HEAD_BYTES = 300


def broken(seed: int, real: Path | None) -> Iterator[Recipe]:
    """Yield the whole files, each damage of them, and of some real ones if a folder of them is given."""
    for name, (container, tracks) in WHOLE.items():
        yield Recipe(
            f"whole-{name}", lambda path, form=container, tracks=tracks: encode(path, form, *tracks, seed=seed)
        )
        yield from damages(f"whole-{name}", seed)
    for source in real_media(real) if real else ():
        name = f"real-{source.parent.name}-{source.name}"
        yield Recipe(name, lambda path, source=source: path.write_bytes(source.read_bytes()))
        yield from list(damages(name, seed))[:: len(PARTS)]
    yield from lies(seed)
    yield from fragments()


def real_media(folder: Path) -> list[Path]:
    """A few real files of each kind."""
    patterns = {"grid/originals/*": 2, "grid/clips/*.mp4": 3, "vggsound/video/*.mp4": 3, "cremad/VideoFlash/*.flv": 3}
    patterns |= {"cremad/AudioWAV/*.wav": 2, "cremad/AudioMP3/*.mp3": 2}
    return [path for pattern, number in patterns.items() for path in sorted(folder.glob(pattern))[:number]]


def damages(name: str, seed: int) -> Iterator[Recipe]:
    """Yield damages of a file that is made before them."""
    stem, _, suffix = name.rpartition(".")

    def damaged(how: str, change: Callable[[bytearray, random.Random], object]) -> Recipe:
        def make(path: Path) -> None:
            data = bytearray((path.parent / name).read_bytes())
            change(data, random.Random(f"{seed} {name} {how}"))
            path.write_bytes(data)

        return Recipe(f"broken-{stem}-{how}.{suffix}", make)

    for part in PARTS:
        yield damaged(
            f"first-{part:g}", lambda data, rng, part=part: data.__delitem__(slice(int(len(data) * part), None))
        )
    for share in SHARES:
        yield damaged(f"flipped-{share:g}", lambda data, rng, share=share: _flip(data, rng, share, len(data)))
    yield damaged("flipped-head", lambda data, rng: _flip(data, rng, 0.02, HEAD_BYTES))
    yield damaged(
        "zeroed", lambda data, rng: data.__setitem__(slice(len(data) // 3, None), bytes(len(data) - len(data) // 3))
    )
    yield damaged("without-head", lambda data, rng: data.__delitem__(slice(0, 64)))
    yield damaged("twice", lambda data, rng: data.extend(data))


def _flip(data: bytearray, rng: random.Random, share: float, end: int) -> None:
    end = min(end, len(data))
    for _ in range(max(1, round(end * share))):
        data[rng.randrange(end)] ^= 1 << rng.randrange(8)


def lies(seed: int) -> Iterator[Recipe]:
    """Yield files whose headers say what is not so."""
    samples = (9000 * np.sin(np.arange(16000) * 0.1)).astype("<i2")[:, None]
    most = 2**32 - 1
    claims = {"rate": (0, 1, 7, 999, 2**31 - 1, most), "channels": (0, 2, 255, 65535), "bits": (0, 1, 7, 64, 65535)}
    claims |= {"align": (0, 1, 65535), "size": (0, 1, most), "whole": (0, most), "form": (0, 2, 0x50, 0xFFFE, 0xFFFF)}
    for field, values in claims.items():
        for value in values:
            yield content(f"lie-{field}-{value}.wav", wav(samples, **{field: value}))
    yield from _boxes(seed)
    for width, height in ((65535, 65535), (2**31 - 1, 1), (2**31 - 1, 2**31 - 1), (0, 0), (16000, 16000)):
        head = struct.pack(">IIBBBBB", width & 0xFFFFFFFF, height & 0xFFFFFFFF, 8, 2, 0, 0, 0)
        chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(4096))), (b"IEND", b"")]
        png = b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, chunks))
        yield content(f"lie-{width}x{height}.png", png)
        yield content(f"lie-{width}x{height}.ppm", f"P6 {width} {height} 255\n".encode() + bytes(4096))
        yield content(f"lie-{width}x{height}.y4m", f"YUV4MPEG2 W{width} H{height} F25:1 C420\nFRAME\n" + "x" * 4096)
        yield content(f"lie-{width}x{height}.bmp", _bmp(width, height))
        gif = struct.pack("<6sHHBBB", b"GIF89a", width & 0xFFFF, height & 0xFFFF, 0x80, 0, 0) + bytes(6)
        yield content(f"lie-{width}x{height}.gif", gif + b",\0\0\0\0\xff\xff\xff\xff\0\x02\x02\x4c\x01\0;")
    for rate in ("0:1", "1:0", "1000000:1", "1:1000000000"):
        frames = b"".join(b"FRAME\n" + bytes(16 * 16 * 3 // 2) for _ in range(5))
        yield content(f"lie-F{rate.replace(':', '-')}.y4m", f"YUV4MPEG2 W16 H16 F{rate} C420\n".encode() + frames)
    for rate_hz in (0, 1, most):
        au = struct.pack(">4s5I", b".snd", 24, most, 3, rate_hz, 1) + samples.astype(">i2").tobytes()
        yield content(f"lie-rate-{rate_hz}.au", au)


def _boxes(seed: int) -> Iterator[Recipe]:
    """Yield mp4 files with a field of a box replaced: durations, units, sizes, counts."""
    fields = {
        "mvhd-unit": (b"mvhd", 16, 4, (0, 1, 2**32 - 1)),
        "mvhd-duration": (b"mvhd", 20, 4, (0, 2**32 - 1)),
        "mdhd-unit": (b"mdhd", 16, 4, (0, 1, 2**32 - 1)),
        "mdhd-duration": (b"mdhd", 20, 4, (0, 2**32 - 1)),
        "tkhd-width": (b"tkhd", 80, 4, (0, 2**32 - 1)),
        "stsz-count": (b"stsz", 12, 4, (0, 2**31 - 1, 2**32 - 1)),
        "stts-count": (b"stts", 8, 4, (0, 2**32 - 1)),
        "stts-step": (b"stts", 16, 4, (0, 2**31 - 1, 2**32 - 1)),
        "stco-place": (b"stco", 12, 4, (0, 2**32 - 1)),
        "avc1-size": (b"avc1", 28, 4, (0, 0x00010001, 0xFFFFFFFF)),
        "mp4a-rate": (b"mp4a", 28, 4, (0, 0x00010000, 0xFFFF0000)),
        "mp4a-channels": (b"mp4a", 20, 2, (0, 8, 65535)),
        "moov-size": (b"moov", -4, 4, (0, 1, 7, 2**32 - 1)),
    }
    for name, (box, offset, size, values) in fields.items():
        for value in values:

            def make(path: Path, box: bytes = box, offset: int = offset, size: int = size, value: int = value) -> None:
                encode(path, "mp4", Pictures(), Sound(), seed=seed)
                data = bytearray(path.read_bytes())
                place = data.index(box) + offset
                data[place : place + size] = value.to_bytes(size, "big")
                path.write_bytes(data)

            yield Recipe(f"lie-{name}-{value}.mp4", make)


def _chunk(chunk: tuple[bytes, bytes]) -> bytes:
    kind, data = chunk
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _bmp(width: int, height: int) -> bytes:
    head = struct.pack("<2sIHHI", b"BM", 2**31, 0, 0, 54)
    return head + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(4096)


def fragments() -> Iterator[Recipe]:
    """Yield files that are empty, only a head, or no media."""
    yield content("empty.mp4", b"")
    heads = {
        "wav": b"RIFF\x24\0\0\0WAVEfmt ",
        "mp4": b"\0\0\0\x18ftypisom\0\0\0\0",
        "mkv": b"\x1aE\xdf\xa3",
        "png": b"\x89PNG\r\n\x1a\n",
    }
    heads |= {
        "flac": b"fLaC",
        "ogg": b"OggS\0\x02",
        "mp3": b"\xff\xfb\x90\0",
        "avi": b"RIFF\0\0\0\0AVI LIST",
        "flv": b"FLV\x01\x05",
    }
    heads |= {
        "gif": b"GIF89a",
        "jpg": b"\xff\xd8\xff\xe0",
        "ts": b"\x47" + b"\xff" * 187,
        "webm": b"\x1aE\xdf\xa3\x9fB\x86\x81\x01",
    }
    for suffix, head in heads.items():
        yield content(f"head.{suffix}", head)
    rng = random.Random(0)
    for name, data in {
        "noise.mp4": rng.randbytes(100_000),
        "zeros.mp4": bytes(100_000),
        "text.mp4": "no media at all\n" * 100,
        "page.mp4": "<html><body>404 not found</body></html>",
        "spaces.wav": " " * 5000,
        "json.mp4": '{"a": 1}',
        "python.mp4": "import os\n",
        "elf.mp4": b"\x7fELF\x02\x01\x01" + bytes(500),
        "zip.mp4": b"PK\x05\x06" + bytes(18),
        "gzip.mp4": b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0",
    }.items():
        yield content(name, data)
