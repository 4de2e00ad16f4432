"""Pictures and sound of a clip, in one decoding pass through PyAV.

Bad media never raise an exception. The result says what can be known about the clip:

- a stream that does not exist: `has_audio` or `has_video` is false, and there is no failure;
- a stream that exists and gives nothing: a failure for that modality;
- a file that cannot be opened (empty, not media, an mp4 cut off before its index): its streams cannot be
  known, so it is a failure of each requested modality;
- a stream that breaks off or is damaged half-way: whatever could be decoded is returned.

Cover art in a sound file is not a picture of the clip. An image file is a clip of one frame.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeAlias

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from amr.extract.media.sampling import FrameSampling
from amr.extract.media.streams import UNKNOWN_FRAME_SECONDS, Pictures, Sound, Timeline

__all__ = ["Decoded", "FrameSampling", "decode"]

av.logging.set_level(None)  # FFmpeg's own lines would land in the middle of a progress bar

MediaStream: TypeAlias = VideoStream | AudioStream

PREROLL_SECONDS = 1.0  # decoded before an interval: sound codecs need a few packets until they are exact
MAX_FRAMES_AHEAD = 64  # more than any codec reorders by
# Playlists and session descriptions name other files and hosts, which FFmpeg would open and wait for.
NO_OTHER_FILES = {"protocol_whitelist": "none"}


@dataclass(frozen=True)
class Decoded:
    """Content of a clip. Times count from the start of the file, even if an interval was requested.

    Args:
        frames: Sampling -> `(frames, height, width, 3)` uint8 RGB; empty if there are no pictures.
        frame_seconds: Sampling -> time at which each frame appears on the screen, `(frames,)`.
        sound: Sample rate in Hz -> `(samples,)` float32 mono in [-1, 1]; empty if there is no sound.
        failures: Modality ("audio", "video") -> why an existing stream gave nothing.
        has_audio: Whether the file has a sound stream.
        has_video: Whether the file has a picture stream.
        duration_seconds: Length of the decoded part: the longer of pictures and sound.
    """

    frames: dict[FrameSampling, np.ndarray] = field(default_factory=dict)
    frame_seconds: dict[FrameSampling, np.ndarray] = field(default_factory=dict)
    sound: dict[int, np.ndarray] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    has_audio: bool = False
    has_video: bool = False
    duration_seconds: float = 0.0


def decode(
    path: Path,
    *,
    samplings: Collection[FrameSampling] = (),
    sample_rates_hz: Collection[int] = (),
    start_seconds: float | None = None,
    end_seconds: float | None = None,
) -> Decoded:
    """Decode a clip once, for every requested sampling of its frames and sample rate of its sound.

    Decoding stops after the last frame needed. Frames on which no needed frame depends are skipped, and only
    selected frames are converted to RGB. If `start_seconds` and `end_seconds` cut out an interval, frames are
    spread over the part of it in which the file has pictures.

    Args:
        path: Media file of any kind that FFmpeg knows, under any name.
        samplings: Samplings that select the frames.
        sample_rates_hz: Sample rates of the sound.
        start_seconds: Start of the clip in the file; the file's start by default.
        end_seconds: End of the clip in the file; the file's end by default.

    Raises:
        ValueError: The interval ends before it begins, or a sample rate is below 1. Never raised for bad media.
    """
    start = 0.0 if start_seconds is None else start_seconds
    end = math.inf if end_seconds is None else end_seconds
    if not 0 <= start < end:
        raise ValueError(
            f"start_seconds must be at least 0 and below end_seconds, got {start_seconds} and {end_seconds}. "
            "Correct the interval of this clip."
        )
    if any(rate < 1 for rate in sample_rates_hz):
        raise ValueError(f"sample_rates_hz must be at least 1, got {list(sample_rates_hz)}. Pass [16000].")
    request = (path, tuple(dict.fromkeys(samplings)), tuple(dict.fromkeys(sample_rates_hz)), start, end)
    try:
        if not path.is_file():  # a folder, or a pipe, which would block
            raise FileNotFoundError("the file does not exist")
        if path.stat().st_size == 0:
            raise ValueError("it is empty")
        clip = _Clip(*request, seek=start > PREROLL_SECONDS)
        clip.read()
        if clip.began_late:  # the seek landed after the start of the interval
            clip = _Clip(*request, seek=False)
            clip.read()
        return clip.result()
    except (av.FFmpegError, OSError, ValueError, RuntimeError) as error:
        reason = f"the file cannot be opened: {_reason(error)}"
        requested = {"video": samplings, "audio": sample_rates_hz}
        return Decoded(failures={modality: reason for modality, outputs in requested.items() if outputs})


class _Clip:
    """A clip that is being decoded, from packets to arrays."""

    def __init__(
        self,
        path: Path,
        samplings: tuple[FrameSampling, ...],
        rates_hz: tuple[int, ...],
        start: float,
        end: float,
        *,
        seek: bool,
    ) -> None:
        self._path, self._samplings, self._rates_hz = path, samplings, rates_hz
        self._start, self._end, self._seek = start, end, seek
        self._has_video = self._has_audio = False
        self._known_seconds = 0.0
        self._timeline: Timeline | None = None
        self._pictures: Pictures | None = None
        self._sound: Sound | None = None
        self._failures: dict[str, str] = {}

    @property
    def began_late(self) -> bool:
        """Whether the seek went past the start of the interval, so that earlier media may be missing."""
        return self._seek and any(each is not None and each.began_late for each in (self._pictures, self._sound))

    def read(self) -> None:
        """Find the streams, then decode them."""
        with _open(self._path) as container:
            self._find_streams(container)
            if self._pictures is None and self._sound is not None:
                self._decode(container)
        if self._pictures is not None:
            # Reopened instead of rewound: not every format can seek back to its first packet.
            with _open(self._path) as container:
                self._decode(container)

    def result(self) -> Decoded:
        """The decoded clip, with a failure for each stream that gave nothing."""
        pictures, sound = self._pictures, self._sound
        for modality, content, collector in (("video", "frame", pictures), ("audio", "sound", sound)):
            if collector is not None and not collector.finish():
                where = "" if (self._start, self._end) == (0, math.inf) else " in the clip's interval"
                error = self._failures.get(modality)
                self._failures[modality] = f"no {content} could be decoded{where}" + (f": {error}" if error else "")
            elif collector is not None:
                self._failures.pop(modality, None)
        shown = self._timeline.end - self._timeline.begin if self._timeline is not None else 0.0
        return Decoded(
            frames=pictures.frames if pictures is not None else {},
            frame_seconds=pictures.frame_seconds if pictures is not None else {},
            sound=sound.sound if sound is not None else {},
            failures=self._failures,
            has_audio=self._has_audio,
            has_video=self._has_video,
            duration_seconds=max(shown, sound.seconds if sound is not None else 0.0) or self._known_seconds,
        )

    def _find_streams(self, container: InputContainer) -> None:
        video, audio = _video_stream(container), _audio_stream(container)
        self._has_video, self._has_audio = video is not None, audio is not None
        self._known_seconds = (container.duration or 0) / av.time_base
        for modality, stream, requested in (("video", video, self._samplings), ("audio", audio, self._rates_hz)):
            if stream is not None and requested and stream.codec_context is None:
                self._failures[modality] = "there is no decoder for this stream"
        if audio is not None and self._rates_hz and "audio" not in self._failures:
            self._sound = Sound(self._rates_hz, self._start, self._end)
        if video is not None and self._samplings and "video" not in self._failures:
            self._timeline = self._scan(container, video)
            if self._timeline is None:
                self._failures["video"] = "there are no pictures in the clip's interval"
            else:
                self._pictures = Pictures(self._samplings, self._timeline)

    def _scan(self, container: InputContainer, video: VideoStream) -> Timeline | None:
        """Read from the packets when pictures are shown, because durations in headers are often wrong."""
        if self._seek:
            self._go_to_start(container)
        tick, zero = float(video.time_base or 0), _zero_seconds(container)
        frame_seconds = 1 / float(video.average_rate) if video.average_rate else UNKNOWN_FRAME_SECONDS
        stamps, last_seconds, num_past, num_unstamped = [], -math.inf, 0, 0
        for packet in _packets(container, [video]):
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is None or packet.is_discard:
                num_unstamped += packet.size > 0 and not packet.is_discard
                continue
            stamps.append(stamp)
            shown_seconds = (packet.duration or 0) * tick or frame_seconds
            last_seconds = max(last_seconds, stamp * tick - zero + shown_seconds)
            num_past = num_past + 1 if stamp * tick - zero > self._end else 0
            if num_past > MAX_FRAMES_AHEAD:
                break
        in_order = np.unique(np.array(stamps, dtype=np.int64))
        seconds = in_order * tick - zero
        begin = max(self._start, float(seconds[0]) if len(seconds) else 0.0)
        end = min(self._end, last_seconds if len(seconds) else num_unstamped * frame_seconds)
        return Timeline(begin, end, in_order, seconds, frame_seconds) if begin <= end else None

    def _decode(self, container: InputContainer) -> None:
        """Pass every decoded frame to the collector of its stream."""
        collectors: dict[int, Pictures | Sound] = {}
        streams: list[MediaStream] = []
        for stream, collector in (
            (_video_stream(container), self._pictures),
            (_audio_stream(container), self._sound),
        ):
            if stream is not None and collector is not None:
                stream.codec_context.thread_count = 1  # clips are decoded in parallel, one process per core
                collectors[stream.index] = collector
                streams.append(stream)
        if self._seek:
            self._go_to_start(container)
        zero = _zero_seconds(container)
        for packet in _packets(container, streams):
            collector = collectors[packet.stream.index]
            if not collector.done:
                self._feed(packet, collector, zero)
            elif all(each.done for each in collectors.values()):
                break

    def _feed(self, packet: Packet, collector: Pictures | Sound, zero: float) -> None:
        if isinstance(collector, Pictures):
            # Frames from which no other frame is predicted need no decoding unless they are selected.
            packet.stream.codec_context.skip_frame = "DEFAULT" if collector.needs(packet.pts) else "NONREF"
        try:
            for frame in packet.decode():
                collector.add(frame, zero)  # type: ignore[arg-type]
        except (av.FFmpegError, ValueError, RuntimeError) as error:
            # The packet is damaged; the next may be intact.
            self._failures["video" if isinstance(collector, Pictures) else "audio"] = _reason(error)

    def _go_to_start(self, container: InputContainer) -> None:
        target = _zero_seconds(container) + self._start - PREROLL_SECONDS
        with suppress(av.FFmpegError):  # decoding then starts at the front, which is only slower
            container.seek(int(target * av.time_base))


class _Nameless:
    """A file without its name: FFmpeg takes `im%d.png` for a pattern and `yt:id.mp4` for a protocol."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


@contextmanager
def _open(path: Path) -> Iterator[InputContainer]:
    with (
        path.open("rb") as file,
        av.open(_Nameless(file), mode="r", metadata_errors="ignore", options=NO_OTHER_FILES) as container,
    ):
        yield container


def _video_stream(container: InputContainer) -> VideoStream | None:
    """First stream of pictures that is not cover art."""
    return next((each for each in container.streams.video if not each.disposition & Disposition.attached_pic), None)


def _audio_stream(container: InputContainer) -> AudioStream | None:
    return next(iter(container.streams.audio), None)


def _packets(container: InputContainer, streams: list[MediaStream]) -> Iterator[Packet]:
    """Yield every packet. If the file breaks off, yield one empty packet per stream, which flushes its decoder."""
    try:
        yield from container.demux(streams)
    except IndexError:
        return  # PyAV fails at the very end on a stream that first appeared half-way
    except av.FFmpegError:
        for stream in streams:
            last = Packet()
            last.stream = stream
            yield last


def _zero_seconds(container: InputContainer) -> float:
    """Timestamp of the file's start, which is rarely 0 in transport streams."""
    return (container.start_time or 0) / av.time_base


def _reason(error: Exception) -> str:
    """FFmpeg's description of an error, without its number."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.replace("\n", " ")
