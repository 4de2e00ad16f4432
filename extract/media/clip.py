"""A clip that is being decoded: its streams are found, its packets scanned, then decoded and collected."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from amr.extract.media.container import (
    IMAGE,
    MAX_IMAGE_PIXELS,
    KeptPackets,
    MediaStream,
    audio_stream,
    format_of,
    max_pixels,
    open_media,
    packets,
    reason_of,
    video_stream,
    zero_seconds,
)
from amr.extract.media.sampling import UNKNOWN_FRAME_SECONDS, Request, Timeline
from amr.extract.media.sections import Sections, shift
from amr.extract.media.seeking import (
    MAY_BEGIN_AGAIN,
    SEEK_BY_POSITION,
    STORE_TIMES,
    Step,
    can_skip_frames,
    is_at_constant_rate,
    seeks_exactly,
    stores_decoding_order,
)
from amr.extract.media.spool import TooLarge
from amr.extract.media.streams import PREROLL_SECONDS, Pictures, Sound

MAX_FRAMES_AHEAD = 64  # more than any codec reorders by
MAX_PACKETS = 5_000_000  # of one stream: two days of pictures


@dataclass(frozen=True)
class Decoded:
    """Content of a clip. Times count from the start of the file, even if an interval was requested.

    Args:
        frames: Sampling -> `(frames, height, width, 3)` uint8 RGB, or reduction -> `(frames, ...)`; empty if there are
            no pictures.
        frame_seconds: Sampling or reduction -> time at which each frame appears on the screen, `(frames,)`.
        frame_errors: Sampling or reduction -> why its frames could not be collected.
        sound: Sample rate in Hz -> `(samples,)` float32 mono in [-1, 1]; empty if there is no sound.
        failures: Modality ("audio", "video") -> why an existing stream gave nothing.
        has_audio: Whether the file has a sound stream.
        has_video: Whether the file has a picture stream.
        duration_seconds: Length of the decoded part: the longer of pictures and sound.
    """

    frames: dict[Request, np.ndarray] = field(default_factory=dict)
    frame_seconds: dict[Request, np.ndarray] = field(default_factory=dict)
    frame_errors: dict[Request, Exception] = field(default_factory=dict)
    sound: dict[int, np.ndarray] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    has_audio: bool = False
    has_video: bool = False
    duration_seconds: float = 0.0


class Clip:
    """A clip that is being decoded, from packets to arrays.

    Args:
        path: Media file.
        requests: Samplings that select the frames, or reductions of these frames.
        rates_hz: Sample rates of the sound.
        start: Start of the clip in seconds.
        end: End of the clip in seconds.
        audio_track: Index of the sound stream; None for the file's default.
        thorough: Whether to decode everything from the start of the file. Otherwise decoding begins shortly before
            the clip, after a seek if that is exact.
    """

    def __init__(
        self,
        path: Path,
        requests: tuple[Request, ...],
        rates_hz: tuple[int, ...],
        start: float,
        end: float,
        audio_track: int | None,
        *,
        thorough: bool,
    ) -> None:
        self._path, self._requests, self._rates_hz = path, requests, rates_hz
        self._start, self._end, self._audio_track = start, end, audio_track
        self._direct, self._thorough = start > PREROLL_SECONDS and not thorough, thorough
        self._format = ""
        self._seeks = self._can_skip = self._is_lost = False
        self._scanned: KeptPackets | None = None
        self._has_video = self._has_audio = False
        self._known_seconds = 0.0
        self._shifts: list[float | None] = []
        self._ticks: dict[int, float] = {}  # stream -> seconds per unit of timestamps
        self._timeline: Timeline | None = None
        self._pictures: Pictures | None = None
        self._sound: Sound | None = None
        self._failures: dict[str, str] = {}
        self._refused: dict[str, str] = {}

    @property
    def missed_start(self) -> bool:
        """Whether the start of the clip, or of what follows a jump, may be missing."""
        pictures, sound = self._pictures, self._sound
        if pictures is not None and pictures.began_late and (self._direct or pictures.jumps):
            return True
        return self._direct and (self._is_lost or (sound is not None and sound.began_late))

    def read(self) -> None:
        """Find the streams, then decode them."""
        with open_media(self._path) as container:
            self._find_streams(container)
            if self._is_lost or (self._pictures is None and self._sound is None):
                return
            kept = None if self._scanned is None else self._scanned.again()
            if self._scanned is None or kept is not None:
                self._decode(container, kept)
                return
        # Reopened instead of rewound: not every format can seek back to its first packet.
        with open_media(self._path) as container:
            self._decode(container)

    def result(self) -> Decoded:
        """The decoded clip, with a failure for each stream that gave nothing."""
        pictures, sound = self._pictures, self._sound
        for modality, content, collector in (("video", "frame", pictures), ("audio", "sound", sound)):
            if collector is None:
                continue
            is_found = self._finish(modality, collector)
            if modality in self._refused:
                self._failures[modality] = self._refused[modality]
            elif not is_found:
                where = "" if (self._start, self._end) == (0, math.inf) else " in the clip's interval"
                error = self._failures.get(modality)
                if self._format.endswith(IMAGE):
                    error = f"it is damaged, or has more than {MAX_IMAGE_PIXELS:,} pixels ({error})"
                self._failures[modality] = f"no {content} could be decoded{where}" + (f": {error}" if error else "")
            else:
                self._failures.pop(modality, None)
        shown = self._timeline.end - self._timeline.begin if self._timeline is not None else 0.0
        return Decoded(
            frames=pictures.frames if pictures is not None else {},
            frame_seconds=pictures.frame_seconds if pictures is not None else {},
            frame_errors=pictures.errors if pictures is not None else {},
            sound=sound.sound if sound is not None and "audio" not in self._refused else {},
            failures=self._failures,
            has_audio=self._has_audio,
            has_video=self._has_video,
            duration_seconds=max(shown, sound.seconds if sound is not None else 0.0) or self._known_seconds,
        )

    def _finish(self, modality: str, collector: Pictures | Sound) -> bool:
        try:
            return collector.finish()
        except TooLarge as error:
            self._refused[modality] = str(error)
            return False
        except (av.FFmpegError, ValueError, RuntimeError) as error:
            self._failures[modality] = reason_of(error)
            return False

    def _find_streams(self, container: InputContainer) -> None:
        video, audio = video_stream(container), audio_stream(container, self._audio_track)
        self._has_video, self._has_audio = video is not None, bool(container.streams.audio)
        self._known_seconds = (container.duration or 0) / av.time_base
        if self._rates_hz and self._has_audio and audio is None:
            count = len(container.streams.audio)
            self._failures["audio"] = (
                f"there is no audio track {self._audio_track}: the file has {count}, counted from 0"
            )
        for modality, stream, requested in (("video", video, self._requests), ("audio", audio, self._rates_hz)):
            if stream is not None and requested and stream.codec_context is None:
                self._failures[modality] = "there is no decoder for this stream"
        if video is not None and video.codec_context is not None:
            width, height = video.codec_context.width, video.codec_context.height
            limit = max_pixels(format_of(container))
            if self._requests and width * height > limit:
                self._failures["video"] = (
                    f"pictures must have at most {limit:,} pixels, got {width} x {height}. Scale them down."
                )
        wanted_video = video if self._requests and "video" not in self._failures else None
        wanted_audio = audio if self._rates_hz and "audio" not in self._failures else None
        self._format = format_of(container)
        self._seeks = self._direct and seeks_exactly(self._format, wanted_audio)
        stores_times = self._format in STORE_TIMES
        if wanted_audio is not None:
            counts = not stores_times and not self._seeks
            self._sound = Sound(self._rates_hz, self._start, self._end, stores_times=stores_times, counts=counts)
        if wanted_video is not None:
            self._can_skip = can_skip_frames(self._format, wanted_video)
            self._timeline = self._scan(container, wanted_video, audio)
            if self._timeline is not None:
                reorders = stores_decoding_order(self._format, wanted_video)
                jumps = self._can_skip and not self._thorough
                self._pictures = Pictures(self._requests, self._timeline, reorders_stamps=reorders, jumps=jumps)
            else:
                self._failures["video"] = "there are no pictures in the clip's interval"
                self._is_lost |= self._direct
        elif wanted_audio is not None and self._format in MAY_BEGIN_AGAIN:
            self._scan(container, wanted_audio, video)

    def _scan(self, container: InputContainer, stream: MediaStream, other: MediaStream | None) -> Timeline | None:
        """Read from the packets when a stream is shown, because durations in headers are often wrong.

        The other stream helps to see where timestamps begin again.
        """
        if self._seeks:
            self._go_to_start(container)
        tick, zero, sections = float(stream.time_base or 0), zero_seconds(container), Sections()
        frame_seconds = _frame_seconds(stream)
        may_begin_again = self._format in MAY_BEGIN_AGAIN
        streams = [stream] if other is None or not (may_begin_again or self._sound) else [stream, other]
        seen = _Seen()
        num_past = num_unstamped = num_hidden = 0
        self._scanned = KeptPackets(container, streams)
        for packet in self._scanned:
            section = sections.add(packet) if may_begin_again else 0
            if packet.stream_index != stream.index:
                continue
            pts, is_discard = packet.pts, packet.is_discard
            stamp = packet.dts if pts is None else pts
            num_hidden += (pts is None or is_discard) and packet.size > 0
            if stamp is None or is_discard:
                num_unstamped += packet.size > 0 and not is_discard
                continue
            shown_seconds = (packet.duration or 0) * tick or frame_seconds
            seen.add(section, stamp, shown_seconds, packet.is_keyframe)
            seconds = stamp * tick - zero
            if section and self._end < math.inf:
                seconds += sections.shifts(self._format)[section] or 0.0
            num_past = num_past + 1 if seconds > self._end else 0
            if num_past > MAX_FRAMES_AHEAD:
                break
        shifts = sections.shifts(self._format)
        if any(seconds != 0 for seconds in shifts):
            self._shifts = shifts
            self._is_lost |= self._seeks  # what was jumped over may have moved the rest
        stamps, shown, keys = seen.shifted(shifts, tick)
        in_order, order = np.unique(stamps, return_inverse=True)
        if self._shifts or num_hidden or len(in_order) < len(stamps):
            order = order[:0]
        times = in_order * tick - zero
        last_seconds = float((stamps * tick - zero + shown).max(initial=-math.inf))
        begin = max(self._start, float(times[0]) if len(times) else 0.0)
        end = min(self._end, last_seconds if len(times) else num_unstamped * frame_seconds)
        if begin > end:
            return None
        return Timeline(begin, end, in_order, times, frame_seconds, np.isin(in_order, stamps[keys]), order)

    def _decode(self, container: InputContainer, kept: Iterator[Packet] | None = None) -> None:
        """Pass every decoded frame to the collector of its stream.

        Args:
            container: Open file.
            kept: All packets that are needed; None to read them.
        """
        video, audio = video_stream(container), audio_stream(container, self._audio_track)
        collectors: dict[int, Pictures | Sound] = {}
        streams: list[MediaStream] = []
        for stream, collector in ((video, self._pictures), (audio, self._sound)):
            if stream is not None and collector is not None:
                stream.codec_context.thread_count = 1  # clips are decoded in parallel, one process per core
                collectors[stream.index] = collector
                self._ticks[stream.index] = float(stream.time_base or 0)
            if stream is not None and (collector is not None or self._shifts):
                streams.append(stream)
        first = None
        if self._seeks and kept is None:
            if self._format in SEEK_BY_POSITION:
                first = next(packets(container, streams), None)
            self._go_to_start(container)
        from_front = self._direct and not self._seeks
        zero, sections = zero_seconds(container), Sections()
        for packet in packets(container, streams) if kept is None else kept:
            if first is not None and not is_at_constant_rate(first, packet):
                self._is_lost = True
                return
            first = None
            if self._shifts:
                shift(packet, sections, self._shifts)
            collector = collectors.get(packet.stream_index)
            if collector is not None and not collector.done:
                if isinstance(collector, Pictures):
                    self._feed_pictures(packet, collector, zero)
                elif not (from_front and collector.is_early(packet, zero)):
                    self._feed(packet, collector, zero)
            elif all(each.done for each in collectors.values()):
                break

    def _feed_pictures(self, packet: Packet, pictures: Pictures, zero: float) -> None:
        step, context = pictures.step(packet), packet.stream.codec_context
        if step is None or step == Step.BEGIN:
            last = Packet()
            last.stream, last.time_base = packet.stream, packet.time_base
            self._feed(last, pictures, zero)
            context.flush_buffers()
        if step is None:
            pictures.stop()
        elif step != Step.LEAVE_OUT:
            if self._can_skip:
                context.skip_frame = "DEFAULT" if pictures.needs(packet.pts) else "NONREF"
            pictures.expect(packet)
            self._feed(packet, pictures, zero)

    def _feed(self, packet: Packet, collector: Pictures | Sound, zero: float) -> None:
        tick = self._ticks[packet.stream_index] if packet.size else None
        try:
            for frame in packet.decode():
                collector.add(frame, zero, tick)  # type: ignore[arg-type]
        except TooLarge as error:  # only of sound: pictures keep theirs
            self._refused["audio"] = str(error)
            collector.stop()
        except (av.FFmpegError, ValueError, RuntimeError) as error:
            # The packet is damaged; the next may be intact.
            self._failures["video" if isinstance(collector, Pictures) else "audio"] = reason_of(error)

    def _go_to_start(self, container: InputContainer) -> None:
        target = zero_seconds(container) + self._start - PREROLL_SECONDS
        with suppress(av.FFmpegError):  # decoding then starts at the front, which is only slower
            container.seek(int(target * av.time_base))


class _Seen:
    """Packets of a stream without their content, in a few bytes each: recordings of hours have millions."""

    def __init__(self) -> None:
        self._sections, self._stamps, self._shown_seconds = array("q"), array("q"), array("d")
        self._are_keys = bytearray()

    def add(self, section: int, stamp: int, shown_seconds: float, is_key: bool) -> None:
        """Add the next packet."""
        self._sections.append(section)
        self._stamps.append(stamp)
        self._shown_seconds.append(shown_seconds)
        self._are_keys.append(is_key)
        if len(self._stamps) > MAX_PACKETS:
            raise TooLarge(f"a file must have at most {MAX_PACKETS:,} pictures, got more. Split it into clips.")

    def shifted(self, shifts: Sequence[float | None], tick: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Timestamps, seconds for which each is shown, and whether it is a key frame, each `(packets,)`.

        Args:
            shifts: Seconds by which each section moves; None for one that is left out.
            tick: Seconds per unit of timestamps.
        """
        stamps, shown = np.array(self._stamps, np.int64), np.array(self._shown_seconds)
        keys = np.array(self._are_keys, bool)
        if not any(seconds != 0 for seconds in shifts):
            return stamps, shown, keys
        sections = np.array(self._sections)
        ticks = np.array([round((seconds or 0.0) / tick) for seconds in shifts])
        kept = np.array([seconds is not None for seconds in shifts])[sections]
        return (stamps + ticks[sections])[kept], shown[kept], keys[kept]


def _frame_seconds(stream: MediaStream) -> float:
    """How long a frame is shown if its packet does not say."""
    rate = stream.average_rate if isinstance(stream, VideoStream) else None
    return 1 / float(rate) if rate else UNKNOWN_FRAME_SECONDS
