"""Pictures and sound of a clip, in one decoding pass through PyAV.

What comes back is what can be known about a clip, never an exception for bad media:

- a stream that is not there: `has_audio` or `has_video` is false, and no failure;
- a stream that is there and gives nothing: a failure for that modality;
- a file that cannot be opened (empty, not media, an mp4 cut off before its index): which streams it had
  cannot be known, so it is a failure of each modality that was asked of it;
- a stream that breaks off or is damaged half-way: what could be decoded is kept, if it is anything.

Cover art in a sound file is no picture of the clip. An image file is a clip of one frame.
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

PREROLL_SECONDS = 1.0  # decoded ahead of an interval: sound codecs need a few packets until they are exact
MAX_FRAMES_AHEAD = 64  # more than any codec reorders by
# Playlists and session descriptions name other files and hosts, which FFmpeg would open and wait for.
NOTHING_ELSE = {"protocol_whitelist": "none"}


@dataclass(frozen=True)
class Decoded:
    """What a clip holds. Times count from the beginning of the file, also when an interval was asked for.

    Args:
        frames: for each sampling, (frames, height, width, 3) uint8 RGB; empty where there is no picture.
        frame_seconds: for each sampling, (frames,) when each of them came on the screen.
        sound: for each sample rate in Hz, (samples,) float32 mono in [-1, 1]; empty where there is no sound.
        failures: modality ("audio", "video") -> why a stream that is there gave nothing.
        has_audio: the file has a sound stream.
        has_video: the file has a picture stream.
        duration_seconds: length of what was decoded: the longer of pictures and sound.
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
    """Decode a clip once, for every sampling of its frames and every sample rate of its sound asked for.

    Pictures are decoded up to the last frame needed, frames on which no needed one depends are skipped, and
    only frames that are kept are converted to RGB. Where a clip is cut out by `start_seconds` and
    `end_seconds`, its frames are spread over the part of that interval in which the file has pictures.

    Args:
        path: a media file of any kind FFmpeg knows, under any name.
        samplings: which frames to keep.
        sample_rates_hz: at which rates to give the sound.
        start_seconds: where the clip begins in the file; its beginning by default.
        end_seconds: where the clip ends; the file's end by default.

    Raises:
        ValueError: an interval that ends before it begins, or a sample rate below 1. Never for bad media.
    """
    start = 0.0 if start_seconds is None else start_seconds
    end = math.inf if end_seconds is None else end_seconds
    if not 0 <= start < end:
        raise ValueError(
            f"start_seconds must be at least 0 and below end_seconds, got {start_seconds} and {end_seconds}. "
            "Correct the interval of this clip."
        )
    if any(rate < 1 for rate in sample_rates_hz):
        raise ValueError(f"sample_rates_hz must be at least 1, got {list(sample_rates_hz)}. Pass 16000.")
    wanted = (path, tuple(dict.fromkeys(samplings)), tuple(dict.fromkeys(sample_rates_hz)), start, end)
    try:
        if not path.is_file():  # a folder, or a pipe that would be waited for
            raise FileNotFoundError("there is no such file")
        if path.stat().st_size == 0:
            raise ValueError("it is empty")
        clip = _Clip(*wanted, seek=start > PREROLL_SECONDS)
        clip.read()
        if clip.began_late:  # seeking landed behind the beginning of the interval
            clip = _Clip(*wanted, seek=False)
            clip.read()
        return clip.result()
    except (av.FFmpegError, OSError, ValueError, RuntimeError) as error:
        reason = f"the file cannot be opened: {_reason(error)}"
        asked = {"video": samplings, "audio": sample_rates_hz}
        return Decoded(failures={modality: reason for modality, wanted in asked.items() if wanted})


class _Clip:
    """One clip on its way from packets to arrays."""

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
        """The decoder was sent to a place behind the start, though the file may have something before it."""
        return self._seek and any(taker is not None and taker.began_late for taker in (self._pictures, self._sound))

    def read(self) -> None:
        """Look what is there, then decode it."""
        with _open(self._path) as container:
            self._look(container)
            if self._pictures is None and self._sound is not None:
                self._decode(container)
        if self._pictures is not None:
            # Opened again instead of rewound: not every format finds its way back to its first packet.
            with _open(self._path) as container:
                self._decode(container)

    def result(self) -> Decoded:
        """What was read, with a failure for each stream that gave nothing."""
        pictures, sound = self._pictures, self._sound
        for modality, what, taker in (("video", "frame", pictures), ("audio", "sound", sound)):
            if taker is not None and not taker.finish():
                where = "" if (self._start, self._end) == (0, math.inf) else " in the clip's interval"
                error = self._failures.get(modality)
                self._failures[modality] = f"no {what} could be decoded{where}" + (f": {error}" if error else "")
            elif taker is not None:
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

    def _look(self, container: InputContainer) -> None:
        video, audio = _video_stream(container), _audio_stream(container)
        self._has_video, self._has_audio = video is not None, audio is not None
        self._known_seconds = (container.duration or 0) / av.time_base
        for modality, stream, wanted in (("video", video, self._samplings), ("audio", audio, self._rates_hz)):
            if stream is not None and wanted and stream.codec_context is None:
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
        """When pictures are shown, from the packets alone: what headers say of durations is often wrong."""
        if self._seek:
            self._go_to_start(container)
        tick, zero = float(video.time_base or 0), _zero_seconds(container)
        frame_seconds = 1 / float(video.average_rate) if video.average_rate else UNKNOWN_FRAME_SECONDS
        stamps, last_seconds, num_behind, num_without = [], -math.inf, 0, 0
        for packet in _packets(container, [video]):
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is None or packet.is_discard:
                num_without += packet.size > 0 and not packet.is_discard
                continue
            stamps.append(stamp)
            shown_seconds = (packet.duration or 0) * tick or frame_seconds
            last_seconds = max(last_seconds, stamp * tick - zero + shown_seconds)
            num_behind = num_behind + 1 if stamp * tick - zero > self._end else 0
            if num_behind > MAX_FRAMES_AHEAD:
                break
        in_order = np.unique(np.array(stamps, dtype=np.int64))
        seconds = in_order * tick - zero
        begin = max(self._start, float(seconds[0]) if len(seconds) else 0.0)
        end = min(self._end, last_seconds if len(seconds) else num_without * frame_seconds)
        return Timeline(begin, end, in_order, seconds, frame_seconds) if begin <= end else None

    def _decode(self, container: InputContainer) -> None:
        """Hand every decoded frame to its taker."""
        takers: dict[int, Pictures | Sound] = {}
        streams: list[MediaStream] = []
        for stream, taker in (
            (_video_stream(container), self._pictures),
            (_audio_stream(container), self._sound),
        ):
            if stream is not None and taker is not None:
                stream.codec_context.thread_count = 1  # clips are decoded side by side, a process a core
                takers[stream.index] = taker
                streams.append(stream)
        if self._seek:
            self._go_to_start(container)
        zero = _zero_seconds(container)
        for packet in _packets(container, streams):
            taker = takers[packet.stream.index]
            if not taker.done:
                self._give(packet, taker, zero)
            elif all(each.done for each in takers.values()):
                break

    def _give(self, packet: Packet, taker: Pictures | Sound, zero: float) -> None:
        if isinstance(taker, Pictures):
            # Frames that no other frame is predicted from cost nothing where they are not kept.
            packet.stream.codec_context.skip_frame = "DEFAULT" if taker.needs(packet.pts) else "NONREF"
        try:
            for frame in packet.decode():
                taker.add(frame, zero)  # type: ignore[arg-type]
        except (av.FFmpegError, ValueError, RuntimeError) as error:
            # A damaged packet; the next may be whole.
            self._failures["video" if isinstance(taker, Pictures) else "audio"] = _reason(error)

    def _go_to_start(self, container: InputContainer) -> None:
        target = _zero_seconds(container) + self._start - PREROLL_SECONDS
        with suppress(av.FFmpegError):  # it stays at the front, which is only slower
            container.seek(int(target * av.time_base))


class _Nameless:
    """A file without its name: FFmpeg takes `im%d.png` for a pattern and `yt:id.mp4` for a protocol."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


@contextmanager
def _open(path: Path) -> Iterator[InputContainer]:
    with (
        path.open("rb") as file,
        av.open(_Nameless(file), mode="r", metadata_errors="ignore", options=NOTHING_ELSE) as container,
    ):
        yield container


def _video_stream(container: InputContainer) -> VideoStream | None:
    """The first stream of pictures that is not the cover of a record."""
    return next((each for each in container.streams.video if not each.disposition & Disposition.attached_pic), None)


def _audio_stream(container: InputContainer) -> AudioStream | None:
    return next(iter(container.streams.audio), None)


def _packets(container: InputContainer, streams: list[MediaStream]) -> Iterator[Packet]:
    """Every packet; where the file breaks off, an empty one a stream: decoders give what they hold back."""
    try:
        yield from container.demux(streams)
    except IndexError:
        return  # PyAV stumbles at the very end over a stream that turned up half-way
    except av.FFmpegError:
        for stream in streams:
            last = Packet()
            last.stream = stream
            yield last


def _zero_seconds(container: InputContainer) -> float:
    """The timestamp at which the file begins: transport streams rarely begin at 0."""
    return (container.start_time or 0) / av.time_base


def _reason(error: Exception) -> str:
    """What went wrong, in FFmpeg's words, without its numbers."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.replace("\n", " ")
