"""Selection of the frames of a clip that an encoder sees."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

FRAME_RATE_HZ = 25.0  # of a folder of images, which does not say
ROUNDING_SECONDS = 1e-6  # timestamps are rounded: a frame this much late still counts as on time


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
        """Times of the frames in seconds, `(frames,)`, increasing; at least one, even for an empty interval."""
        length = end_seconds - start_seconds
        if self.num_frames is not None:
            return start_seconds + length * (np.arange(self.num_frames) + 0.5) / self.num_frames
        assert self.rate_hz is not None
        num_frames = math.floor(length * self.rate_hz + 0.5 + ROUNDING_SECONDS)
        if num_frames < 1:
            return np.array([start_seconds + length / 2])
        # A last part shorter than half of 1 / rate_hz gives no frame; a longer one does, within the clip.
        return np.minimum(start_seconds + (np.arange(num_frames) + 0.5) / self.rate_hz, end_seconds)
