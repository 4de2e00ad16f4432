"""Frames of a clip as the pictures that an exported network takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from amr.common.registry import unknown
from amr.extract.encoders.base import PrepareEachFrame
from amr.extract.encoders.crop import Crop
from amr.extract.encoders.file_tensor import as_tensor
from amr.extract.encoders.optional.exported_network import Port
from amr.extract.media.sampling import FrameSampling
from amr.extract.media.spool import Spool

# Kind of input -> orders of its axes after the batch: t frames, c colors, h rows, w columns.
LAYOUTS = {"picture": ("chw", "hwc"), "frames": ("tchw", "cthw", "thwc")}
NUM_COLORS = 3


class PrepareFrames(PrepareEachFrame):
    """Function from `(frames, height, width, 3)` to pictures `(frames, c, h, w)`, or to one input of all frames.

    Args:
        sampling: Frames of a clip.
        crop: Part of the frames.
        size: Height and width of a picture. A frame is resized so that it covers this, and cut around its middle.
        mean: Mean that is subtracted from values from 0 to 1, for each color.
        std: Number by which they are then divided, for each color.
        layout: Order of the axes, of `LAYOUTS`.
    """

    def __init__(
        self,
        sampling: FrameSampling,
        crop: Crop,
        size: tuple[int, int],
        mean: Sequence[float],
        std: Sequence[float],
        layout: str,
    ) -> None:
        self.sampling, self.crop, self.layout = sampling, crop, layout
        self.size = size
        self.mean, self.std = np.array(mean, np.float32), np.array(std, np.float32)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row of the input."""
        lengths = dict(zip("chw", (NUM_COLORS, *self.size), strict=True)) | {"t": self.sampling.num_frames or 1}
        return tuple(lengths[axis] for axis in self.layout)

    def frame(self, image: np.ndarray) -> np.ndarray:
        """Picture of one frame, in the layout without its axis of frames."""
        part = self.crop.cut_to_resize(image)
        values = (covering(part, *self.size).astype(np.float32) / 255 - self.mean) / self.std  # (h, w, c)
        order = ["hwc".index(axis) for axis in self.layout.replace("t", "")]
        return np.ascontiguousarray(values.transpose(order))

    def join(self, frames: np.ndarray) -> Tensor:
        """Pictures as rows, `(frames, ...)`; or all frames as one row, `(1, ...)`."""
        if "t" not in self.layout:
            return as_tensor(frames)
        axis = self.layout.index("t")
        if axis == 0:
            return as_tensor(frames)[None]
        row = Spool()
        row.append(np.ascontiguousarray(np.moveaxis(frames, 0, axis))[None])
        return as_tensor(row.finish())


def covering(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a frame, `(rows, columns, 3)` uint8, so that it covers a size, and cut it around its middle."""
    rows, columns = image.shape[:2]
    scale = min(rows / height, columns / width)  # of the part that is used, to the result
    used_rows, used_columns = scale * height, scale * width
    left, top = (columns - used_columns) / 2, (rows - used_rows) / 2
    box = (left, top, left + used_columns, top + used_rows)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, box=box))


def layout_of(port: Port, kind: str, given: str | None) -> str:
    """Order of the axes of an input: the axis of length 3 is that of the colors, unless it is given.

    Args:
        port: Input of the network.
        kind: "picture" or "frames".
        given: Value of the option `layout`.

    Raises:
        ValueError: The given order does not fit, or several orders fit.
    """
    layouts = LAYOUTS[kind]
    if given is not None and given not in layouts:
        raise unknown("layout", given, layouts)
    colors = {layout: port.shape[1:][layout.index("c")] for layout in layouts}
    if given is not None:
        if colors[given] not in (NUM_COLORS, None):
            raise ValueError(
                f"layout must have an axis of {NUM_COLORS} colors, got {given} for the input {port}. Leave it out."
            )
        return given
    sure = [layout for layout in layouts if colors[layout] == NUM_COLORS]
    if len(sure) == 1:
        return sure[0]
    possible = sure or [layout for layout in layouts if colors[layout] is None]
    if len(possible) == 1:
        return possible[0]
    if not possible:
        raise ValueError(
            f"input={kind} must have an axis of {NUM_COLORS} colors, got {port}. Export the network for RGB pictures."
        )
    raise ValueError(f"layout must be given for the input {port}, got none. Type layout={possible[0]}.")
