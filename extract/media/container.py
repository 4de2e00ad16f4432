"""Media files as PyAV opens them: streams, packets, timestamps, and reasons of failures."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO, TypeAlias, TypeVar

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from amr.extract.media.spool import TooLarge

MediaStream: TypeAlias = VideoStream | AudioStream
AnyStream = TypeVar("AnyStream", VideoStream, AudioStream)

# Playlists and session descriptions name other files and hosts, which FFmpeg would open and wait for.
NO_OTHER_FILES = {"protocol_whitelist": "none"}
MAX_PIXELS = 1 << 24  # of a video's pictures, twice those of 4K: a decoder holds up to 17 of them
MAX_IMAGE_PIXELS = 25 << 20  # of an image, more than a camera's 24 million
IMAGE = "_pipe"  # end of the names of FFmpeg's image formats
MAX_HEADER_BYTES = 128 << 20  # read to open a file. Of an image, that is all of it
KEPT_BYTES = 8 << 20  # of packets that are kept in memory to be passed twice
PACKET_BYTES = 2 << 10  # that a packet counts at least: beside its content, it may hold on to what was read with it

av.logging.set_level(None)  # FFmpeg's own lines would land in the middle of a progress bar


class _Nameless:
    """A file without its name: FFmpeg takes `im%d.png` for a pattern and `yt:id.mp4` for a protocol."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.tell = file.tell
        self.limit: float = MAX_HEADER_BYTES
        self.num_read = 0  # bytes, twice what is read twice

    def read(self, size: int = -1) -> bytes:
        """Read as a file does, up to the limit."""
        content = self._file.read(size)
        self.num_read += len(content)
        return content if self.num_read <= self.limit else b""

    def seek(self, offset: int, whence: int = 0) -> int:
        """Seek as a file does. Returns a negative number in place of an error, which PyAV would print."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):  # damaged files point before their own start
            return -errno.EINVAL


@contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """Open a media file for reading.

    Raises:
        FFmpegError: The file is not media.
        TooLarge: The header of the file, or the image, is too large.
    """
    options = NO_OTHER_FILES | _no_more_pixels(MAX_IMAGE_PIXELS)
    with (
        path.open("rb") as file,
        av.open(nameless := _Nameless(file), mode="r", metadata_errors="ignore", options=options) as container,
    ):
        if nameless.num_read > nameless.limit:
            most = MAX_HEADER_BYTES >> 20
            raise TooLarge(f"an image, or the header of a file, must take at most {most} MiB, got more. Compress it.")
        nameless.limit = math.inf
        for stream in container.streams.video:
            if stream.codec_context is not None:
                stream.codec_context.options = _no_more_pixels(max_pixels(format_of(container)))
        yield container


def format_of(container: InputContainer) -> str:
    """FFmpeg's short name of the file's format, such as "mov" for all that is like MP4."""
    return container.format.name.partition(",")[0]


def max_pixels(format_name: str) -> int:
    """Largest number of pixels of a picture in a file of this format."""
    return MAX_IMAGE_PIXELS if format_name.endswith(IMAGE) else MAX_PIXELS


def _no_more_pixels(limit: int) -> dict[str, str]:
    """Option of FFmpeg, which checks it before it allocates a picture. It counts what lines are filled up with, too."""
    return {"max_pixels": str(limit + limit // 16)}


def video_stream(container: InputContainer) -> VideoStream | None:
    """Stream of pictures that the file marks as default, or the first. Cover art is none."""
    return _default([each for each in container.streams.video if not each.disposition & Disposition.attached_pic])


def audio_stream(container: InputContainer, track: int | None = None) -> AudioStream | None:
    """Stream of sound that the file marks as default, or the first; or the one at index `track`."""
    streams = container.streams.audio
    if track is not None:
        return streams[track] if track < len(streams) else None
    return _default(streams)


def packets(container: InputContainer, streams: Sequence[MediaStream]) -> Iterator[Packet]:
    """Yield every packet. If the file breaks off, yield one empty packet per stream, which flushes its decoder."""
    try:
        yield from container.demux(list(streams))
    except IndexError:
        return  # PyAV fails at the very end on a stream that first appeared half-way
    except av.FFmpegError:
        for stream in streams:
            last = Packet()
            last.stream = stream
            yield last


class KeptPackets:
    """Packets of a file, which are kept while they are few, to be passed a second time.

    Args:
        container: Open file.
        streams: Streams whose packets are passed.
    """

    def __init__(self, container: InputContainer, streams: Sequence[MediaStream]) -> None:
        self._file: _Nameless = container.file.file
        self._most_read = self._file.num_read + KEPT_BYTES
        self._packets = packets(container, streams)
        self._kept: list[Packet] | None = []
        self._left = KEPT_BYTES

    def __iter__(self) -> Iterator[Packet]:
        """Pass every packet for the first time. The caller may stop on the way."""
        for packet in self._packets:
            if self._kept is not None:
                self._kept.append(packet)
                self._left -= max(packet.size, PACKET_BYTES)
                if self._left < 0 or self._file.num_read > self._most_read:
                    self._kept = None
            yield packet

    def again(self) -> Iterator[Packet] | None:
        """Every packet from the first one on, also those that were not reached; None if they were too large to keep."""
        return None if self._kept is None else chain(self._kept, self._packets)


def stamp_of(packet: Packet) -> int | None:
    """Timestamp at which a packet is shown, as far as it is known."""
    return packet.dts if packet.pts is None else packet.pts


def zero_seconds(container: InputContainer) -> float:
    """Timestamp of the file's start, which is rarely 0 in transport streams."""
    return (container.start_time or 0) / av.time_base


def reason_of(error: Exception) -> str:
    """FFmpeg's description of an error, without its number."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.replace("\n", " ")


def _default(streams: Sequence[AnyStream]) -> AnyStream | None:
    first = next(iter(streams), None)
    return next((each for each in streams if each.disposition & Disposition.default), first)
