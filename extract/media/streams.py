"""Collectors of decoded frames: pictures at the requested times, sound at the requested sample rates."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator

import numpy as np
from av.audio.frame import AudioFrame
from av.filter.graph import Graph
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from amr.extract.media.container import stamp_of
from amr.extract.media.orientation import upright
from amr.extract.media.sampling import ROUNDING_SECONDS, Reduction, Request, Timeline, sampling_of
from amr.extract.media.seeking import Step, steps_to
from amr.extract.media.spool import Spool, TooLarge, check_frames

PREROLL_SECONDS = 1.0  # decoded before an interval: sound codecs need a few packets until they are exact
WARM_UP_SECONDS = 0.1  # resampled before an interval: longer than the resampler's filter
MAX_REORDERED = 5  # packets that a decoder takes in before it gives their first frame
LATE_START_SECONDS = 0.05  # a smaller delay of the sound is a delay of its codec
GAP_SECONDS = 0.1  # a smaller gap in the sound is an error of timestamps; FFmpeg's limit, too
MAX_GAP_SECONDS = 600.0  # a longer gap is an error of timestamps
MAX_SOUND_SECONDS = 12 * 3600.0
SAMPLE_RATES_HZ = (1000, 768_000)  # lowest and highest of a file; what says anything else is damaged


class Pictures:
    """Collector of the frames that are on the screen at the requested times.

    Frames come in display order. Only one frame that may not be needed is held at any time: the one shown last.

    Args:
        requests: Samplings that select the frames, or reductions of these frames.
        timeline: Times of all pictures.
        reorders_stamps: Whether timestamps are in the order of decoding. Then each frame gets the earliest one left.
        jumps: Whether packets may be left out on which no needed frame depends.
    """

    def __init__(
        self, requests: tuple[Request, ...], timeline: Timeline, *, reorders_stamps: bool = False, jumps: bool = False
    ) -> None:
        self._series = [_Series(request, timeline) for request in requests]
        requested = [(float(time), at) for at, series in enumerate(self._series) for time in series.times]
        self._remaining = sorted(requested, reverse=True)  # the next one is at the end of the list
        times = np.array([time for time, _ in requested], dtype=np.float64)
        needed, order = timeline.packets_at(times), timeline.order
        self._needed = frozenset(timeline.stamps[needed].tolist())
        self._steps = b""
        if jumps and len(order) and needed.any():
            surely = timeline.packets_at(times, surely=True)
            self._steps = steps_to(timeline.stamps[order], timeline.keys[order], surely[order])
        self._num_packets = 0
        self._is_over = False
        self._frame_seconds = timeline.frame_seconds
        self._reorders_stamps = reorders_stamps
        self._waiting_stamps: list[int] = []
        self._shown: VideoFrame | None = None
        self._shown_seconds = -math.inf
        self._shown_image: np.ndarray | None = None
        self._size: tuple[int, int] | None = None
        self._reformatter = VideoReformatter()
        self._begin_stamp: int | None = None  # of the first packet after a jump, until its frame comes
        self._is_late = True
        self.frames: dict[Request, np.ndarray] = {}
        self.frame_seconds: dict[Request, np.ndarray] = {}
        self.errors: dict[Request, Exception] = {}

    @property
    def done(self) -> bool:
        """Whether no further frame is needed."""
        return self._is_over or not self._remaining

    @property
    def jumps(self) -> bool:
        """Whether packets are left out."""
        return Step.BEGIN in self._steps

    @property
    def began_late(self) -> bool:
        """Whether the first frame, also after a jump, came later than the next requested time, or none came."""
        return self._is_late

    def stop(self) -> None:
        """Take no more frames. The last one is on the screen at all times that are left."""
        self._is_over = True

    def needs(self, stamp: int | None) -> bool:
        """Whether the frame with this timestamp may be selected; true if it has none."""
        return stamp is None or stamp in self._needed

    def step(self, packet: Packet) -> int | None:
        """What to do with the next packet; None if neither it nor any after it is needed."""
        if not self._steps or not packet.size:
            return Step.DECODE
        at = self._num_packets
        self._num_packets += 1
        if at >= len(self._steps):
            return None
        step = self._steps[at]
        if step == Step.BEGIN:
            self._begin_stamp, self._is_late = packet.pts, True
        return step

    def expect(self, packet: Packet) -> None:
        """Note the next packet to be decoded."""
        stamp = stamp_of(packet)
        if self._reorders_stamps and stamp is not None:
            heapq.heappush(self._waiting_stamps, stamp)
            if len(self._waiting_stamps) > MAX_REORDERED:  # some packets give no frame
                heapq.heappop(self._waiting_stamps)

    def add(self, frame: VideoFrame, zero: float, tick: float | None = None) -> None:
        """Add the next frame in display order.

        Args:
            frame: Decoded frame.
            zero: Timestamp of the file's start, in seconds.
            tick: Seconds per unit of timestamps; None if the frame itself says.
        """
        if self._waiting_stamps:
            frame.pts = heapq.heappop(self._waiting_stamps)
        stamp_seconds = _stamp_seconds(frame, zero, tick)
        if stamp_seconds is None:
            stamp_seconds = 0.0 if self._shown is None else self._shown_seconds + self._frame_seconds
        seconds = max(stamp_seconds, self._shown_seconds)  # broken timestamps never move time backwards
        if self._begin_stamp is not None:
            self._is_late = frame.pts is None or frame.pts > self._begin_stamp
            self._begin_stamp = None
        if self._shown is None:
            self._is_late = bool(self._remaining) and seconds > self._remaining[-1][0]
            self._show(frame, seconds)
        while self._remaining and self._remaining[-1][0] < seconds - ROUNDING_SECONDS:
            self._select()
        self._show(frame, seconds)

    def finish(self) -> bool:
        """Select the last frame for all remaining times. Returns False if there was no frame, and no error either."""
        if self._shown is None and not any(series.error is not None for series in self._series):
            return False
        while self._remaining:
            self._select()
        for series in self._series:
            frames = series.finish()
            if series.error is not None:
                self.errors[series.request] = series.error
            elif frames is not None:
                self.frames[series.request] = frames
                self.frame_seconds[series.request] = np.array(series.seconds)
        return True

    def _show(self, frame: VideoFrame, seconds: float) -> None:
        self._shown, self._shown_seconds, self._shown_image = frame, seconds, None

    def _select(self) -> None:
        if self._shown_image is None:
            assert self._shown is not None
            self._shown_image = self._to_rgb(self._shown)
        _, at = self._remaining.pop()
        self._series[at].add(self._shown_image, self._shown_seconds)

    def _to_rgb(self, frame: VideoFrame) -> np.ndarray:
        """Upright image, `(height, width, 3)` uint8, in the size of the first one even if the stream changes size."""
        if self._size is None:
            self._size = (frame.width, frame.height)
        width, height = self._size
        colors = self._reformatter.reformat(frame, width=width, height=height, format="rgb24", threads=1)
        image = colors.to_ndarray()
        return upright(image, frame)


class _Series:
    """The frames of one request, reduced as they come. A frame that is shown at several times is reduced once."""

    def __init__(self, request: Request, timeline: Timeline) -> None:
        self.request = request
        self.times = np.zeros(0)
        self.seconds: list[float] = []
        self.error: Exception | None = None
        self._reduce = request.begin() if isinstance(request, Reduction) else np.asarray
        self._spool = Spool()
        self._image = self._reduced = np.zeros(0)
        try:
            self.times = sampling_of(request).times(timeline.begin, timeline.end)
        except TooLarge as error:
            self.error = error

    def add(self, image: np.ndarray, seconds: float) -> None:
        """Add the frame that is shown at the next time. Whatever the reduction raises is the request's error."""
        if self.error is not None:
            return
        try:
            if image is not self._image:
                self._image, self._reduced = image, self._reduce(image)
            if not self.seconds:
                check_frames(len(self.times), self._reduced.nbytes)
            self._spool.append(self._reduced[None])
        except Exception as error:
            self.error, self._spool = error, Spool()
            self._image = self._reduced = np.zeros(0)
        else:
            self.seconds.append(seconds)

    def finish(self) -> np.ndarray | None:
        """All frames, `(frames, ...)`; None after an error."""
        self._image = self._reduced = np.zeros(0)
        try:
            return None if self.error is not None else self._spool.finish()
        except (TooLarge, OSError) as error:
            self.error = error
            return None


def _stamp_seconds(frame: VideoFrame | AudioFrame, zero: float, tick: float | None) -> float | None:
    """Time of a frame by its timestamp; None if it has none."""
    stamp = frame.pts
    if tick is None and stamp is not None and frame.time_base is not None:
        tick = float(frame.time_base)
    return None if stamp is None or tick is None else stamp * tick - zero


class Sound:
    """Collector of the sound of an interval, mono, at every requested sample rate.

    Silence is put where timestamps say that there is no sound for a while. Sound whose timestamps step back is joined
    to the sound before.

    Args:
        rates_hz: Sample rates.
        start: Start of the interval in seconds.
        end: End of the interval in seconds.
        stores_times: Whether the file stores timestamps, so that gaps can be seen.
        counts: Whether to count samples from the start of the file instead of reading timestamps.
    """

    def __init__(
        self,
        rates_hz: tuple[int, ...],
        start: float,
        end: float,
        *,
        stores_times: bool = False,
        counts: bool = False,
    ) -> None:
        self._start, self._end, self._stores_times, self._counts = start, end, stores_times, counts
        self._spools = {rate: Spool(clean=_clean) for rate in rates_hz}
        self._resamplers: dict[int, Resampler] = {}
        self._kind: tuple[str, str, int] | None = None
        self._begin: float | None = None
        self._joined_until = 0.0
        self._shift = 0.0
        self._now = 0.0
        self._held: tuple[AudioFrame, float] | None = None
        self._first_is_late = True
        self.done = False
        self.sound: dict[int, np.ndarray] = {}

    @property
    def seconds(self) -> float:
        """Length of the sound."""
        return max((len(sound) / rate for rate, sound in self.sound.items()), default=0.0)

    @property
    def began_late(self) -> bool:
        """Whether the first sound came after the start of the interval, or none came."""
        return self._first_is_late

    def stop(self) -> None:
        """Take no more sound."""
        self.done = True

    def is_early(self, packet: Packet, zero: float) -> bool:
        """Whether a packet is so long before the interval that it need not be decoded."""
        stamp = stamp_of(packet)
        if not self._stores_times or stamp is None or packet.time_base is None or not packet.size:
            return False
        end = (stamp + (packet.duration or 0)) * float(packet.time_base) - zero
        return end < self._start - PREROLL_SECONDS

    def add(self, frame: AudioFrame, zero: float, tick: float | None = None) -> None:
        """Add the next piece of sound.

        Args:
            frame: Decoded piece.
            zero: Timestamp of the file's start, in seconds.
            tick: Seconds per unit of timestamps; None if the piece itself says.

        Raises:
            ValueError: The piece says that it has an absurd sample rate.
            TooLarge: The sound is too long.
        """
        lowest, highest = SAMPLE_RATES_HZ
        rate_hz = frame.sample_rate
        if not lowest <= rate_hz <= highest:
            raise ValueError(f"the sample rate must be {lowest} to {highest} Hz, got {rate_hz}")
        stamp_seconds = None if self._counts else _stamp_seconds(frame, zero, tick)
        begin = self._now if stamp_seconds is None else stamp_seconds
        self._now = begin + frame.samples / rate_hz
        if self._begin is None:
            if self._now < self._start - WARM_UP_SECONDS:
                return
            self._begin_at(begin)
        if self._held is not None:
            held, held_begin = self._held
            held_end = held_begin + held.samples / held.sample_rate
            self._held = None
            # One piece may have a wrong timestamp. Two that follow each other are believed.
            self._join(held, held_begin if abs(begin - held_end) < GAP_SECONDS else None)
        if self._stores_times and abs(self._gap(begin)) > GAP_SECONDS:
            self._held = (frame, begin)
        else:
            self._join(frame, None)

    def finish(self) -> bool:
        """Join the pieces and cut them to the interval. Returns False if there was no sound."""
        if self._held is not None:
            self._join(*self._held)
        self._flush()
        begin = self._begin or 0.0
        for rate, spool in self._spools.items():
            joined = spool.finish()
            first = max(0, round((self._start - begin) * rate))
            last = len(joined) if self._end == math.inf else max(0, round((self._end - begin) * rate))
            cut = joined[first:last]
            if len(cut):
                self.sound[rate] = cut
        return bool(self.sound)

    def _begin_at(self, begin: float) -> None:
        self._begin = self._joined_until = begin
        self._first_is_late = begin > self._start
        late = begin - self._start
        if self._stores_times and LATE_START_SECONDS < late < MAX_GAP_SECONDS and begin < self._end:
            self._begin = self._start
            self._add_silence(begin)

    def _gap(self, begin: float) -> float:
        """Seconds between the end of the joined sound and a piece; negative if the piece begins earlier."""
        return begin + self._shift - self._joined_until

    def _join(self, frame: AudioFrame, begin: float | None) -> None:
        """Add a piece where it begins, or, if that is None, right after the piece before."""
        if begin is not None:
            gap = self._gap(begin)
            if GAP_SECONDS < gap < MAX_GAP_SECONDS:
                self._add_silence(min(self._joined_until + gap, self._end + 2 * WARM_UP_SECONDS))
            else:  # timestamps begin again, or are wrong
                self._shift -= gap
        if self._joined_until > self._end + WARM_UP_SECONDS:
            self.done = True
            return
        self._joined_until += frame.samples / frame.sample_rate
        if self._joined_until - (self._begin or 0.0) > MAX_SOUND_SECONDS:
            raise TooLarge(
                f"the sound of a clip must be at most {MAX_SOUND_SECONDS / 3600:g} hours long, got more. Cut the clip "
                "with start_seconds and end_seconds."
            )
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self._kind:  # the layout or the rate of a stream may change half-way
            self._flush()
            self._resamplers = {rate: Resampler(frame, rate) for rate in self._spools}
            self._kind = kind
        frame.pts = None  # samples are joined as they come
        for rate in self._spools:
            self._push(rate, frame)

    def _add_silence(self, until: float) -> None:
        """Lengthen the sound by silence up to a time."""
        assert self._begin is not None
        self._flush()
        self._joined_until = until
        for rate, spool in self._spools.items():
            num_samples = max(0, round((until - self._begin) * rate) - len(spool))
            second = np.zeros(rate, np.float32)
            for _ in range(num_samples // rate):
                spool.append(second)
            spool.append(second[: num_samples % rate])

    def _flush(self) -> None:
        for rate in self._resamplers:
            self._push(rate, None)
        self._resamplers = {}
        self._kind = None

    def _push(self, rate: int, frame: AudioFrame | None) -> None:
        for piece in self._resamplers[rate].push(frame):
            self._spools[rate].append(_mono(piece))


class Resampler:
    """Sound of one kind at another sample rate, in pieces of a second, as each call costs as much as many samples.

    The samples are those of PyAV's AudioResampler, which gives a piece for every frame.

    Args:
        frame: First frame, which shows the kind of all.
        rate_hz: Sample rate of the pieces.
    """

    def __init__(self, frame: AudioFrame, rate_hz: int) -> None:
        graph = Graph()
        graph.threads = 1
        layout, kind = frame.layout.name, frame.format.name
        self._source = graph.add("abuffer", sample_rate=str(frame.sample_rate), sample_fmt=kind, channel_layout=layout)
        # Channels are averaged afterwards: FFmpeg's own mono is up to 1.4 times louder and would be clipped.
        resample = graph.add("aformat", sample_rates=str(rate_hz), sample_fmts="flt", channel_layouts=layout)
        self._sink = graph.add("abuffersink")
        graph.link_nodes(self._source, resample, self._sink).configure()
        graph.set_audio_frame_size(rate_hz)
        self._graph = graph
        self._most_waiting = frame.sample_rate
        self._num_waiting = 0

    def push(self, frame: AudioFrame | None) -> Iterator[AudioFrame]:
        """Take the next frame, None at the end, and yield the pieces that are ready."""
        self._source.push(frame)
        self._num_waiting += 0 if frame is None else frame.samples
        if frame is not None and self._num_waiting < self._most_waiting:
            return
        self._num_waiting = 0
        while True:
            try:
                piece = self._sink.pull()
            except (BlockingIOError, EOFError):
                return
            yield piece  # type: ignore[misc]  # a sink of sound gives no pictures


def _mono(frame: AudioFrame) -> np.ndarray:
    """Mean of the channels of packed samples, `(samples,)` float32. PyAV cannot read more than 8 planes."""
    num_channels = frame.layout.nb_channels
    packed = np.frombuffer(memoryview(frame.planes[0]), np.float32, frame.samples * num_channels)
    samples = packed.reshape(-1, num_channels)
    total = samples[:, 0] + np.float32(0)
    for channel in range(1, num_channels):
        total += samples[:, channel]
    if num_channels > 1:
        total /= num_channels
    return total


def _clean(sound: np.ndarray) -> None:
    """Replace what is no sound: files of floating point may hold any value."""
    sound[np.isnan(sound)] = 0
    sound.clip(-1.0, 1.0, out=sound)
