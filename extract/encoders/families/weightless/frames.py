"""`frames`: a few frames of a clip, each averaged over the cells of a grid. No weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from amr.extract.encoders.base import PrepareEachFrame, WeightFreeEncoder
from amr.extract.encoders.crop import NONE, Crop
from amr.extract.encoders.file_tensor import as_tensor
from amr.extract.encoders.spec import Spec, height_and_width
from amr.extract.media.sampling import FrameSampling

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
MAX_SHORT = (2**16 - 1) // 255  # pixels whose sum takes 16 bits, which are added faster


@dataclass(frozen=True)
class FramesOptions:
    """Options of `frames`.

    Args:
        frames: Number of frames, spread evenly over the clip.
        grid: Cells of a frame, HxW, or one number for a square; each is the mean of its pixels.
        colour: Color of a cell: one gray value, or red, green and blue.
        crop: Part of the frame that is used, as fractions left:top:right:bottom; none for all of it.
        keep: Output: all frames as one vector (flat), or one vector per frame (steps).
    """

    frames: int = 10
    grid: str = "16x16"
    colour: Literal["grey", "rgb"] = "grey"
    crop: str = NONE
    keep: Literal["flat", "steps"] = "flat"

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"frames must be at least 1, got {self.frames}. Pass frames=10.")
        height, width = self.cells
        object.__setattr__(self, "grid", f"{height}x{width}")
        Crop.parse(self.crop)

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return height_and_width("grid", self.grid, "16x16")


class PrepareFrames(PrepareEachFrame):
    """Function from `(frames, height, width, 3)` to `(frames * dim,)` or `(frames, dim)`."""

    def __init__(self, options: FramesOptions) -> None:
        self.options = options
        self.sampling = FrameSampling(num_frames=options.frames)
        self.crop = Crop.parse(options.crop)

    def frame(self, image: np.ndarray) -> np.ndarray:
        """Cell means of one frame, `(dim,)`, from 0 (black) to 1."""
        cells = cell_means(self.crop.cut(image[None])[0], *self.options.cells)  # (rows, columns, 3)
        means = cells @ LUMA if self.options.colour == "grey" else cells.transpose(2, 0, 1)
        return means.astype(np.float32).flatten()

    def join(self, frames: np.ndarray) -> Tensor:
        """Cell means of one clip's frames."""
        steps = as_tensor(frames)  # (frames, dim)
        return steps if self.options.keep == "steps" else steps.flatten()


def cell_means(pixels: np.ndarray, num_rows: int, num_columns: int) -> np.ndarray:
    """Means over the cells of a grid, `(rows, columns, 3)` from 0 to 1, of a uint8 frame `(height, width, 3)`.

    Sums are exact. A cell that begins or ends within a pixel has all of it, so neighbors may share pixels.
    """
    lines, heights = _sums(pixels, num_rows, np.uint32)  # (rows, width, 3)
    sums, widths = _sums(np.ascontiguousarray(lines.transpose(1, 0, 2)), num_columns, np.uint64)  # (columns, rows, 3)
    return sums.transpose(1, 0, 2) / (255 * heights[:, None, None] * widths[:, None])


def _sums(values: np.ndarray, num_parts: int, kind: type[np.unsignedinteger]) -> tuple[np.ndarray, np.ndarray]:
    """Sum of each part of the first axis, `(parts, ...)`, and the lengths of the parts, `(parts,)`."""
    number = np.arange(num_parts)
    firsts, lasts = number * len(values) // num_parts, -(-(number + 1) * len(values) // num_parts)
    lengths = lasts - firsts
    if values.dtype == np.uint8 and lengths.max() <= MAX_SHORT:
        kind = np.uint16
    sums = np.empty((num_parts, *values.shape[1:]), kind)
    for part, first, last in zip(sums, firsts.tolist(), lasts.tolist(), strict=True):
        np.add.reduce(values[first:last], axis=0, dtype=kind, out=part)
    return sums, lengths


class Frames(WeightFreeEncoder):
    """The `frames` encoder."""

    modality = "video"

    def __init__(self, spec: Spec) -> None:
        options = spec.read(FramesOptions)
        height, width = options.cells
        dim = height * width * (3 if options.colour == "rgb" else 1)
        flat = options.keep == "flat"
        self.spec = spec.canonical(options)
        self.embed_dim = dim * options.frames if flat else dim
        self.max_steps = None if flat else options.frames
        self.preprocessing = asdict(options)
        self.prepare = PrepareFrames(options)


def build(spec: Spec, name: str) -> Frames:
    """Build the encoder of a spec."""
    if spec.model is not None:
        raise ValueError(f"frames must be given without a model, got {str(spec)!r}. Type frames,grid=16x16.")
    return Frames(spec)
