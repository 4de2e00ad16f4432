"""Boxes around faces, in pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Box:
    """Part of a frame, `left <= x < right` and `top <= y < bottom`; it may reach beyond the frame."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        """Number of pixels."""
        return max(0.0, self.right - self.left) * max(0.0, self.bottom - self.top)

    def overlap(self, other: Box) -> float:
        """Area of both over that of either, from 0 to 1.

        >>> Box(0, 0, 2, 2).overlap(Box(1, 0, 3, 2))
        0.3333333333333333
        """
        both = Box(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        ).area
        either = self.area + other.area - both
        return both / either if either > 0 else 0.0

    def towards(self, other: Box, step: float) -> Box:
        """Box between this one (step 0) and another (step 1)."""
        sides = zip(self._sides, other._sides, strict=True)
        return Box(*(a + step * (b - a) for a, b in sides))

    def widened(self, margin: float) -> Box:
        """Box with a margin on each side, as a fraction of its width and height."""
        across, down = margin * (self.right - self.left), margin * (self.bottom - self.top)
        return Box(self.left - across, self.top - down, self.right + across, self.bottom + down)

    def cut(self, image: np.ndarray) -> np.ndarray:
        """The part of a frame, `(height, width, 3)`, as a view. A box beyond an edge is moved inside or cut there."""
        height, width = image.shape[:2]
        top, bottom = _inside(self.top, self.bottom, height)
        left, right = _inside(self.left, self.right, width)
        return image[top:bottom, left:right]

    @property
    def _sides(self) -> tuple[float, float, float, float]:
        return self.left, self.top, self.right, self.bottom


def _inside(begin: float, end: float, length: int) -> tuple[int, int]:
    """Whole pixels of an interval, moved into `0 <= x < length`; at least one, at most all."""
    size = min(max(1, round(end - begin)), length)
    first = min(max(0, round(begin)), length - size)
    return first, first + size
