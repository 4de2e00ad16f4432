"""What becomes of decoded frames: pictures kept at the times wanted, sound joined at the rates wanted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.video.frame import VideoFrame

from amr.extract.media.sampling import ROUNDING_SECONDS, FrameSampling

WARM_UP_SECONDS = 0.1  # resampled ahead of an interval: longer than the resampler's filter
UNKNOWN_FRAME_SECONDS = 1 / 25  # how long a frame is shown where no file says so


@dataclass(frozen=True)
class Timeline:
    """When the pictures of a clip are on the screen, known before anything is decoded.

    Args:
        begin: when the first is shown, seconds.
        end: when the last is gone, seconds.
        stamps: (packets,) timestamps in the stream's own unit, increasing.
        seconds: (packets,) the same in seconds.
        frame_seconds: how long a frame is shown, where no timestamp says so.
    """

    begin: float
    end: float
    stamps: np.ndarray
    seconds: np.ndarray
    frame_seconds: float = UNKNOWN_FRAME_SECONDS


class Pictures:
    """Keeps, out of frames in the order they are shown, those on the screen at the times wanted.

    Only one frame that may not be needed is held at any time: the one shown last.
    """

    def __init__(self, samplings: tuple[FrameSampling, ...], timeline: Timeline) -> None:
        times = [sampling.times(timeline.begin, timeline.end) for sampling in samplings]
        wanted = [(float(time), at) for at, each in enumerate(times) for time in each]
        self._wanted = sorted(wanted, reverse=True)  # the next one is at the end of the list
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
        """No further frame is wanted."""
        return not self._wanted

    def needs(self, stamp: int | None) -> bool:
        """Whether the frame of that timestamp may be kept; true where it has none."""
        return stamp is None or stamp in self._needed

    def add(self, frame: VideoFrame, zero: float) -> None:
        """Take the next frame in the order of display.

        Args:
            frame: the frame.
            zero: the timestamp in seconds at which the file begins.
        """
        if frame.pts is not None and frame.time_base is not None:
            seconds = frame.pts * float(frame.time_base) - zero
        else:
            seconds = 0.0 if self._shown is None else self._shown_seconds + self._frame_seconds
        seconds = max(seconds, self._shown_seconds)  # broken timestamps never turn time back
        if self._shown is None:
            self.began_late = bool(self._wanted) and seconds > self._wanted[-1][0]
            self._show(frame, seconds)
        while self._wanted and self._wanted[-1][0] < seconds - ROUNDING_SECONDS:
            self._keep()
        self._show(frame, seconds)

    def finish(self) -> bool:
        """The last frame stays on the screen for whatever is still wanted; false where there was no frame."""
        if self._shown is None:
            return False
        while self._wanted:
            self._keep()
        for at, sampling in enumerate(self._samplings):
            self.frames[sampling] = np.stack(self._images[at])
            self.frame_seconds[sampling] = np.array(self._seconds[at])
        return True

    def _show(self, frame: VideoFrame, seconds: float) -> None:
        self._shown, self._shown_seconds, self._shown_image = frame, seconds, None

    def _keep(self) -> None:
        _, at = self._wanted.pop()
        if self._shown_image is None:
            assert self._shown is not None
            self._shown_image = self._to_rgb(self._shown)
        self._images[at].append(self._shown_image)
        self._seconds[at].append(self._shown_seconds)

    def _to_rgb(self, frame: VideoFrame) -> np.ndarray:
        """(height, width, 3) uint8, upright; as large as the first, where the stream changes its size too."""
        if self._size is None:
            self._size = (frame.width, frame.height)
        width, height = self._size
        image = frame.reformat(width=width, height=height, format="rgb24").to_ndarray()
        return np.rot90(image, k=round(frame.rotation / 90) % 4)


class Sound:
    """Joins the sound of an interval at every rate wanted, mono."""

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
        """How long the sound is."""
        return max((len(sound) / rate for rate, sound in self.sound.items()), default=0.0)

    def add(self, frame: AudioFrame, zero: float) -> None:
        """Take the next piece of sound.

        Args:
            frame: the piece.
            zero: the timestamp in seconds at which the file begins.
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
        if kind != self._kind:  # streams may change from mono to stereo, or their rate, on the way
            self._flush()
            self._kind = kind
            # Channels are averaged afterwards: FFmpeg's own mono is up to 1.4 times louder and would be clipped.
            self._resamplers = {rate: AudioResampler("fltp", None, rate) for rate in self._pieces}
        frame.pts = None  # samples are joined as they come; gaps in the timestamps are not filled
        for rate in self._pieces:
            self._push(rate, frame)

    def finish(self) -> bool:
        """Join the pieces and cut them to the interval; false where there was no sound."""
        self._flush()
        begin = self._begin or 0.0
        for rate, pieces in self._pieces.items():
            joined = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
            first = max(0, round((self._start - begin) * rate))
            last = len(joined) if self._end == math.inf else max(0, round((self._end - begin) * rate))
            cut = np.nan_to_num(joined[first:last]).clip(-1.0, 1.0)  # float sound may hold anything
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
    """Timestamps of the packets shown at those times, and of those before: a packet may show nothing."""
    if not len(timeline.stamps):
        return frozenset()
    at = np.searchsorted(timeline.seconds, times + ROUNDING_SECONDS, side="right") - 1
    around = np.concatenate([at, at - 1]).clip(0)
    return frozenset(timeline.stamps[around].tolist())
