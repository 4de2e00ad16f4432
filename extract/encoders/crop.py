"""Crop of the frames that an encoder sees: option `crop=left:top:right:bottom`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from amr.extract.media.spool import TooLarge

NONE = "none"  # value of the option if nothing is cut
MAX_SIDE_RATIO = 100  # a line of 65,535 x 1 pixels, its short side resized to 256, would take 12 GiB


@dataclass(frozen=True)
class Crop:
    """Part of a frame, as fractions of its width and height from 0 to 1.

    >>> Crop.parse("0.25:0.5:0.75:1")
    Crop(left=0.25, top=0.5, right=0.75, bottom=1.0)
    """

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Crop:
        """Read the option; "none" is the whole frame.

        Raises:
            ValueError: The text is not of the form left:top:right:bottom, or nothing would be left.
        """
        if text == NONE:
            return cls()
        try:
            left, top, right, bottom = (float(part) for part in text.split(":"))
        except ValueError:
            left = top = right = bottom = -1.0
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ValueError(
                "crop must be left:top:right:bottom, fractions of the frame from 0 to 1, "
                f"got {text!r}. Type crop=0.25:0.5:0.75:1."
            )
        return cls(left, top, right, bottom)

    def cut(self, frames: np.ndarray) -> np.ndarray:
        """Cut `(frames, height, width, 3)` to a view of the part, at least one pixel high and wide."""
        _, height, width, _ = frames.shape
        top, left = int(self.top * height), int(self.left * width)
        bottom, right = round(self.bottom * height), round(self.right * width)
        return frames[:, top : max(top + 1, bottom), left : max(left + 1, right)]

    def cut_to_resize(self, frame: np.ndarray) -> np.ndarray:
        """Cut one frame, `(height, width, 3)`, for a transform that resizes its short side.

        Raises:
            TooLarge: The part is far longer in one direction than in the other.
        """
        (part,) = self.cut(frame[None])
        height, width, _ = part.shape
        if max(height, width) > MAX_SIDE_RATIO * min(height, width):
            raise TooLarge(
                f"a picture must be at most {MAX_SIDE_RATIO} times as long as it is wide, got {width} x {height} "
                "pixels. Cut it with crop=."
            )
        return part
