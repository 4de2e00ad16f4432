"""Files that are small and claim, or hold, very much: sounds, pictures, times, folders."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE_HZ = 48000


def write_wav(
    path: Path, seconds: float, *, rate_hz: int = 16000, says_hz: int | None = None, channels: int = 1, bits: int = 16
) -> None:
    """Sparse WAV of silence, or of noise if it is short, whose header says any rate."""
    size = channels * bits // 8
    num_bytes = round(seconds * rate_hz) * size
    said = rate_hz if says_hz is None else says_hz
    form = struct.pack("<HHIIHH", 1, channels, said, min(said * size, 2**32 - 1), size, bits)
    with path.open("wb") as file:
        file.write(b"RIFF" + struct.pack("<I", 36 + num_bytes) + b"WAVEfmt " + struct.pack("<I", 16) + form)
        file.write(b"data" + struct.pack("<I", num_bytes))
        file.truncate(44 + num_bytes)
        if num_bytes < 1 << 20:
            file.write(np.random.default_rng(0).integers(0, 256, num_bytes, np.uint8).tobytes())


def write_sound(path: Path, codec: str, seconds: float, rate_hz: int = RATE_HZ) -> None:
    """A quiet tone that grows louder, encoded."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate_hz, layout="mono")
        tone = np.sin(2 * np.pi * 440 * np.arange(rate_hz) / rate_hz)
        for second in range(round(seconds)):
            wave = (0.5 * tone * second / seconds).astype(np.float32)
            frame = av.AudioFrame.from_ndarray((wave[None] * 32767).astype(np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = rate_hz, second * rate_hz
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_video(
    path: Path, seconds: float, size: tuple[int, int], *, rate_hz: int = 25, codec: str = "mpeg4", jump: float = 0
) -> None:
    """Pictures that change; the timestamps of the last one jump by as many seconds."""
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate_hz)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        num_frames = round(seconds * rate_hz)
        for number in range(num_frames):
            image = np.full((height, width, 3), number % 200, np.uint8)
            image[:, : width // 2] += 50
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate_hz)
            for packet in stream.encode(frame):
                container.mux(_late(packet, jump if number == num_frames - 1 else 0))
        for packet in stream.encode():
            container.mux(_late(packet, jump))


def _late(packet: av.Packet, seconds: float) -> av.Packet:
    if seconds and packet.pts is not None:
        packet.pts = packet.dts = packet.pts + round(seconds / packet.time_base)
    return packet


def write_png(path: Path, width: int, height: int, *, rows: int | None = None) -> None:
    """A black picture: a thousandth of its size in the file. `rows`: as many lie in the file."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    line = bytes(1 + 3 * width)
    packed = b"".join(packer.compress(line) for _ in range(height if rows is None else rows)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b""))


def write_gif(path: Path, width: int, height: int) -> None:
    """An animation whose screen is as large as said, and whose pictures are a pixel."""
    frame = b"!\xf9\x04\x00\x01\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00"
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(3) + b"\xff\xff\xff"
    path.write_bytes(b"GIF89a" + screen + 50 * frame + b";")


def write_tiff(path: Path, width: int, height: int) -> None:
    """An uncompressed gray picture, sparse."""
    entries = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height)]
    entries.append((279, width * height))
    with path.open("wb") as file:
        file.write(b"II*\x00" + struct.pack("<I", 8 + width * height))
        file.truncate(8 + width * height)
        file.seek(8 + width * height)
        file.write(struct.pack("<H", len(entries)))
        file.write(b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries) + bytes(4))


def write_folder(path: Path, num_images: int) -> None:
    """Names of images, all of one empty file."""
    path.mkdir()
    for number in range(num_images):
        (path / f"{number}.jpg").touch()


def patch_size(path: Path, size: tuple[int, int], said: tuple[int, int]) -> None:
    """Let the header of an MP4 claim another size."""
    content = path.read_bytes()
    before, after = struct.pack(">HH", *size), struct.pack(">HH", *said)
    path.write_bytes(content.replace(before, after))


def write_lying_mp4(path: Path) -> None:
    """A small MP4 that claims 65535 x 65535 pixels."""
    write_video(path, 1, (64, 48), codec="mjpeg")
    patch_size(path, (64, 48), (65535, 65535))


# Name of the file -> how it is written. Each takes a second or two.
BOMBS: dict[str, Callable[[Path], None]] = {
    "says_1_hz.wav": lambda path: write_wav(path, 2.3, says_hz=1),
    "says_999_hz.wav": lambda path: write_wav(path, 2.3, says_hz=999),
    "says_2_ghz.wav": lambda path: write_wav(path, 2.3, says_hz=2**31 - 1),
    "8_channels.wav": lambda path: write_wav(path, 2, channels=8),
    "24_channels.wav": lambda path: write_wav(path, 1, channels=24),
    "64_channels.wav": lambda path: write_wav(path, 1, channels=64),
    "255_channels.wav": lambda path: write_wav(path, 1, channels=255),
    "jump_1e6.mkv": lambda path: write_video(path, 1, (64, 48), jump=1e6),
    "jump_1e9.mkv": lambda path: write_video(path, 1, (64, 48), jump=1e9),
    "jump_1e5.mkv": lambda path: write_video(path, 1, (64, 48), jump=1e5),
    "30000x30000.png": lambda path: write_png(path, 30000, 30000, rows=2000),
    "65535x65535.png": lambda path: write_png(path, 65535, 65535, rows=10),
    "65535x65535.gif": lambda path: write_gif(path, 65535, 65535),
    "65535x1.gif": lambda path: write_gif(path, 65535, 1),
    "20000x20000.tif": lambda path: write_tiff(path, 20000, 20000),
    "65535x65535.mp4": write_lying_mp4,
    "8k.mp4": lambda path: write_video(path, 0.2, (7680, 4320)),
    "5790x5790.png": lambda path: write_png(path, 5790, 5790),
    "13_hours.wav": lambda path: write_wav(path, 13 * 3600, rate_hz=1000, bits=8),
    "2_hours.flac": lambda path: write_sound(path, "flac", 7200, 16000),
}
