"""Selection of the frames of a clip that an encoder sees."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from amr.extract.media.spool import TooLarge

FRAME_RATE_HZ = 25.0  # of a folder of images, which does not say
ROUNDING_SECONDS = 1e-6  # timestamps are rounded: a frame this much late still counts as on time
UNKNOWN_FRAME_SECONDS = 1 / 25  # how long a frame is shown if the file does not say
MAX_FRAMES = 200_000  # of one clip


@dataclass(frozen=True)
class FrameSampling:
    """Rule that selects frames of a clip: a fixed number, or a rate; exactly one of the two.

    The interval of the clip is cut into equal parts, and the frame on the screen at the center of each is
    selected. The selection depends only on timestamps, not on the frame rate.

    Args:
        num_frames: Number of frames, regardless of the clip's length.
        rate_hz: Number of frames per second.

    >>> FrameSampling(num_frames=2).times(0.0, 4.0)
    array([1., 3.])
    >>> FrameSampling(rate_hz=0.5).times(10.0, 14.0)
    array([11., 13.])
    """

    num_frames: int | None = None
    rate_hz: float | None = None

    def __post_init__(self) -> None:
        if (self.num_frames is None) == (self.rate_hz is None):
            raise ValueError(
                "A FrameSampling must have either num_frames or rate_hz, "
                f"got num_frames={self.num_frames} and rate_hz={self.rate_hz}. Pass one of them."
            )
        if self.num_frames is not None and self.num_frames < 1:
            raise ValueError(f"num_frames must be at least 1, got {self.num_frames}. Pass num_frames=8.")
        if self.rate_hz is not None and not 0 < self.rate_hz < math.inf:
            raise ValueError(f"rate_hz must be above 0 and finite, got {self.rate_hz}. Pass rate_hz=2.")

    def times(self, start_seconds: float, end_seconds: float) -> np.ndarray:
        """Times of the frames in seconds, `(frames,)`, increasing; at least one, even for an empty interval.

        Raises:
            TooLarge: There are more than `MAX_FRAMES`.
        """
        length = end_seconds - start_seconds
        wanted = float(self.num_frames or 0) if self.rate_hz is None else length * self.rate_hz + 0.5 + ROUNDING_SECONDS
        if not wanted <= MAX_FRAMES:
            raise TooLarge(
                f"a clip must give at most {MAX_FRAMES:,} frames, got {wanted:,.0f} of {length:,.0f} seconds. "
                "Lower rate=, or cut the clip with start_seconds and end_seconds."
            )
        num_frames = math.floor(wanted)
        if self.rate_hz is None:
            return start_seconds + length * (np.arange(num_frames) + 0.5) / num_frames
        if num_frames < 1:
            return np.array([start_seconds + length / 2])
        # A last part shorter than half of 1 / rate_hz gives no frame; a longer one does, within the clip.
        return np.minimum(start_seconds + (np.arange(num_frames) + 0.5) / self.rate_hz, end_seconds)


@dataclass(frozen=True)
class Reduction:
    """Frames of a sampling, each reduced as it comes, so that full frames are never held together.

    Args:
        sampling: Rule that selects the frames.
        begin: Function that is called before the first frame and returns the reduction of the clip's frames, which it
            gets in their order: from a frame, `(height, width, 3)` uint8 RGB, to an array, whose shape and type are the
            same for every frame.
    """

    sampling: FrameSampling
    begin: Callable[[], Callable[[np.ndarray], np.ndarray]]


Request: TypeAlias = FrameSampling | Reduction


def sampling_of(request: Request) -> FrameSampling:
    """Rule that selects the frames of a request."""
    return request.sampling if isinstance(request, Reduction) else request


@dataclass(frozen=True)
class Timeline:
    """Times at which the pictures of a clip are on the screen, known before anything is decoded.

    Args:
        begin: Time in seconds at which the first picture appears.
        end: Time in seconds at which the last picture disappears.
        stamps: Timestamps in the stream's own unit, `(packets,)`, increasing.
        seconds: Timestamps in seconds, `(packets,)`.
        frame_seconds: Time for which a frame is shown if timestamps do not say.
        keys: Whether decoding can begin at each packet, `(packets,)`.
        order: Index of each packet of the file among the timestamps, `(packets,)`; empty if a packet has no timestamp,
            or one has that of another.
    """

    begin: float
    end: float
    stamps: np.ndarray
    seconds: np.ndarray
    frame_seconds: float = UNKNOWN_FRAME_SECONDS
    keys: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    order: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def packets_at(self, times: np.ndarray, *, surely: bool = False) -> np.ndarray:
        """Mask of the packets shown at these times, and of those just before, as a packet may show nothing.

        Args:
            times: Times in seconds.
            surely: Whether a key packet surely shows something, so that the one before is not needed.
        """
        shown = np.zeros(len(self.stamps), bool)
        if len(shown):
            at = (np.searchsorted(self.seconds, times + ROUNDING_SECONDS, side="right") - 1).clip(0)
            before = at[~self.keys[at]] - 1 if surely else at - 1
            shown[np.concatenate([at, before.clip(0)])] = True
        return shown
