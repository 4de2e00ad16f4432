"""Upright pictures: the matrix with which a file says how its pictures are turned and mirrored."""

from __future__ import annotations

from typing import Any

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

MATRIX_BYTES = 36  # nine numbers of 32 bits


def upright(image: np.ndarray, frame: VideoFrame) -> np.ndarray:
    """Turn and mirror an image as its file says, by multiples of 90 degrees, as FFmpeg does.

    Args:
        image: Image, `(height, width, channels)`.
        frame: Decoded frame of this image.
    """
    try:
        side_data: Any = frame.side_data  # a mapping by type, which PyAV declares as one by name
        found = side_data.get(Type.DISPLAYMATRIX)
    except ValueError:  # PyAV has no name for other data of the frame, such as the EXIF data of an image
        return np.rot90(image, k=round(frame.rotation / 90) % 4)
    matrix = b"" if found is None else bytes(found)
    if len(matrix) != MATRIX_BYTES:
        return image
    # A pixel at (x, y) is shown at (ax + cy, bx + dy), but for a shift.
    (a, b, _), (c, d, _), _ = np.frombuffer(matrix, np.int32).reshape(3, 3).tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, a, d = image.swapaxes(0, 1), c, b
    if a < 0:
        image = image[:, ::-1]
    if d < 0:
        image = image[::-1]
    return image
