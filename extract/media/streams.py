"""Collectors of decoded frames: pictures at the requested times, sound at the requested sample rates."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.video.frame import VideoFrame

from amr.extract.media.sampling import ROUNDING_SECONDS, FrameSampling

WARM_UP_SECONDS = 0.1  # resampled before an interval: longer than the resampler's filter
UNKNOWN_FRAME_SECONDS = 1 / 25  # how long a frame is shown if the file does not say


@dataclass(frozen=True)
class Timeline:
    """Times at which the pictures of a clip are on the screen, known before anything is decoded.

    Args:
        begin: Time in seconds at which the first picture appears.
        end: Time in seconds at which the last picture disappears.
        stamps: Timestamps in the stream's own unit, `(packets,)`, increasing.
        seconds: Timestamps in seconds, `(packets,)`.
        frame_seconds: Time for which a frame is shown if timestamps do not say.
    """

    begin: float
    end: float
    stamps: np.ndarray
    seconds: np.ndarray
    frame_seconds: float = UNKNOWN_FRAME_SECONDS


class Pictures:
    """Collector of the frames that are on the screen at the requested times.

    Frames come in display order. Only one frame that may not be needed is held at any time: the one shown last.
    """

    def __init__(self, samplings: tuple[FrameSampling, ...], timeline: Timeline) -> None:
        times = [sampling.times(timeline.begin, timeline.end) for sampling in samplings]
        requested = [(float(time), at) for at, each in enumerate(times) for time in each]
        self._remaining = sorted(requested, reverse=True)  # the next one is at the end of the list
        self._needed = _needed_stamps(np.concatenate(times), timeline)
        self._images: list[list[np.ndarray]] = [[] for _ in samplings]
        self._seconds: list[list[float]] = [[] for _ in samplings]
        self._samplings = samplings
        self._frame_seconds = timeline.frame_seconds
        self._shown: VideoFrame | None = None
        self._shown_seconds = -math.inf
        self._shown_image: np.ndarray | None = None
        self._size: tuple[int, int] | None = None
        self.began_late = False
        self.frames: dict[FrameSampling, np.ndarray] = {}
        self.frame_seconds: dict[FrameSampling, np.ndarray] = {}

    @property
    def done(self) -> bool:
        """Whether no further frame is needed."""
        return not self._remaining

    def needs(self, stamp: int | None) -> bool:
        """Whether the frame with this timestamp may be selected; true if it has none."""
        return stamp is None or stamp in self._needed

    def add(self, frame: VideoFrame, zero: float) -> None:
        """Add the next frame in display order.

        Args:
            frame: Decoded frame.
            zero: Timestamp of the file's start, in seconds.
        """
        if frame.pts is not None and frame.time_base is not None:
            seconds = frame.pts * float(frame.time_base) - zero
        else:
            seconds = 0.0 if self._shown is None else self._shown_seconds + self._frame_seconds
        seconds = max(seconds, self._shown_seconds)  # broken timestamps never move time backwards
        if self._shown is None:
            self.began_late = bool(self._remaining) and seconds > self._remaining[-1][0]
            self._show(frame, seconds)
        while self._remaining and self._remaining[-1][0] < seconds - ROUNDING_SECONDS:
            self._select()
        self._show(frame, seconds)

    def finish(self) -> bool:
        """Select the last frame for all remaining times. Returns False if there was no frame."""
        if self._shown is None:
            return False
        while self._remaining:
            self._select()
        for at, sampling in enumerate(self._samplings):
            self.frames[sampling] = np.stack(self._images[at])
            self.frame_seconds[sampling] = np.array(self._seconds[at])
        return True

    def _show(self, frame: VideoFrame, seconds: float) -> None:
        self._shown, self._shown_seconds, self._shown_image = frame, seconds, None

    def _select(self) -> None:
        _, at = self._remaining.pop()
        if self._shown_image is None:
            assert self._shown is not None
            self._shown_image = self._to_rgb(self._shown)
        self._images[at].append(self._shown_image)
        self._seconds[at].append(self._shown_seconds)

    def _to_rgb(self, frame: VideoFrame) -> np.ndarray:
        """Upright image, `(height, width, 3)` uint8, in the size of the first one even if the stream changes size."""
        if self._size is None:
            self._size = (frame.width, frame.height)
        width, height = self._size
        image = frame.reformat(width=width, height=height, format="rgb24").to_ndarray()
        return np.rot90(image, k=round(frame.rotation / 90) % 4)


class Sound:
    """Collector of the sound of an interval, mono, at every requested sample rate."""

    def __init__(self, rates_hz: tuple[int, ...], start: float, end: float) -> None:
        self._start, self._end = start, end
        self._pieces: dict[int, list[np.ndarray]] = {rate: [] for rate in rates_hz}
        self._resamplers: dict[int, AudioResampler] = {}
        self._kind: tuple[str, str, int] | None = None
        self._begin: float | None = None
        self._now = 0.0
        self.done = False
        self.began_late = False
        self.sound: dict[int, np.ndarray] = {}

    @property
    def seconds(self) -> float:
        """Length of the sound."""
        return max((len(sound) / rate for rate, sound in self.sound.items()), default=0.0)

    def add(self, frame: AudioFrame, zero: float) -> None:
        """Add the next piece of sound.

        Args:
            frame: Decoded piece.
            zero: Timestamp of the file's start, in seconds.
        """
        if frame.pts is not None and frame.time_base is not None:
            self._now = frame.pts * float(frame.time_base) - zero
        begin, self._now = self._now, self._now + frame.samples / frame.sample_rate
        if self._now < self._start - WARM_UP_SECONDS:
            return
        if begin > self._end + WARM_UP_SECONDS:
            self.done = True
            return
        if self._begin is None:
            self._begin = begin
            self.began_late = begin > self._start
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self._kind:  # the layout or the rate of a stream may change half-way
            self._flush()
            self._kind = kind
            # Channels are averaged afterwards: FFmpeg's own mono is up to 1.4 times louder and would be clipped.
            self._resamplers = {rate: AudioResampler("fltp", None, rate) for rate in self._pieces}
        frame.pts = None  # samples are joined as they come; gaps in the timestamps are not filled
        for rate in self._pieces:
            self._push(rate, frame)

    def finish(self) -> bool:
        """Join the pieces and cut them to the interval. Returns False if there was no sound."""
        self._flush()
        begin = self._begin or 0.0
        for rate, pieces in self._pieces.items():
            joined = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
            first = max(0, round((self._start - begin) * rate))
            last = len(joined) if self._end == math.inf else max(0, round((self._end - begin) * rate))
            cut = np.nan_to_num(joined[first:last]).clip(-1.0, 1.0)  # float sound may hold any value
            if len(cut):
                self.sound[rate] = cut
        return bool(self.sound)

    def _flush(self) -> None:
        for rate in self._resamplers:
            self._push(rate, None)
        self._resamplers = {}

    def _push(self, rate: int, frame: AudioFrame | None) -> None:
        pieces = self._resamplers[rate].resample(frame)
        self._pieces[rate].extend(piece.to_ndarray().mean(0) for piece in pieces if piece is not None)


def _needed_stamps(times: np.ndarray, timeline: Timeline) -> frozenset[int]:
    """Timestamps of the packets shown at these times, and of those just before, as a packet may show nothing."""
    if not len(timeline.stamps):
        return frozenset()
    at = np.searchsorted(timeline.seconds, times + ROUNDING_SECONDS, side="right") - 1
    around = np.concatenate([at, at - 1]).clip(0)
    return frozenset(timeline.stamps[around].tolist())
