"""Upright pictures: the matrix with which a file says how its pictures are turned and mirrored."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, cast

import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.frame import VideoFrame

MATRIX_BYTES = 36  # nine numbers of 32 bits
LATER_TYPES = range(7, 64)  # of data that FFmpeg knows, after the display matrix; there are far fewer than 64


def upright(image: np.ndarray, frame: VideoFrame) -> np.ndarray:
    """Turn and mirror an image as its file says, by multiples of 90 degrees, as FFmpeg does.

    Args:
        image: Image, `(height, width, channels)`.
        frame: Decoded frame of this image.
    """
    found = _side_data(frame).get(Type.DISPLAYMATRIX)
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


def _side_data(frame: VideoFrame) -> Any:
    """Data of a frame by type: a mapping, which PyAV declares as one by name."""
    container: Any = SideDataContainer  # `frame.side_data` would hold the frame until garbage is collected
    try:
        return container(frame)
    except ValueError:  # PyAV has no name for some of it, such as the EXIF data of an image
        return container(_without_unnamed_data(frame))


def _without_unnamed_data(frame: VideoFrame) -> VideoFrame:
    graph = Graph()
    time_base = frame.time_base or Fraction(1)
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=time_base)
    removals = [graph.add("sidedata", f"mode=delete:type={number}") for number in LATER_TYPES]
    graph.link_nodes(source, *removals, graph.add("buffersink")).configure()
    graph.push(frame)
    return cast(VideoFrame, graph.pull())
