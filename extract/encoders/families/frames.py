"""`frames`: a few frames of a clip, each averaged over the cells of a grid. No weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from amr.extract.encoders.base import PrepareEachFrame, WeightFreeEncoder
from amr.extract.encoders.crop import NONE, Crop
from amr.extract.encoders.file_tensor import as_tensor
from amr.extract.encoders.spec import Spec, height_and_width
from amr.extract.media.sampling import FrameSampling

LARGE_PIXELS = 1 << 22  # of a frame that is averaged row by row
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


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
        pixels = torch.from_numpy(np.ascontiguousarray(self.crop.cut(image[None]))).permute(0, 3, 1, 2)
        cells = cell_means(pixels, *self.options.cells)
        if self.options.colour == "grey":  # after pooling, which gives the same values
            cells = (cells * torch.tensor(LUMA)[:, None, None]).sum(1)
        return cells.flatten().numpy()

    def join(self, frames: np.ndarray) -> Tensor:
        """Cell means of one clip's frames."""
        steps = as_tensor(frames)  # (frames, dim)
        return steps if self.options.keep == "steps" else steps.flatten()


def cell_means(pixels: Tensor, num_rows: int, num_columns: int) -> Tensor:
    """Means over the cells of a grid, `(1, 3, rows, columns)` from 0 to 1, of a uint8 frame `(1, 3, height, width)`."""
    height, width = pixels.shape[2:]
    if height * width <= LARGE_PIXELS:  # color by color, which is pooled faster
        planes = pixels.to(torch.float32, memory_format=torch.contiguous_format)
        return functional.adaptive_avg_pool2d(planes.div_(255), (num_rows, num_columns))
    cells = torch.empty(1, 3, num_rows, num_columns)
    floats = torch.empty(1, -(-height // num_rows) + 1, width, 3)
    for row in range(num_rows):  # one at a time, which gives the same values in a part of the memory
        strip = pixels[:, :, row * height // num_rows : -(-(row + 1) * height // num_rows)]
        divided = floats[:, : strip.shape[2]].permute(0, 3, 1, 2)
        torch.div(strip, 255, out=divided)
        cells[:, :, row : row + 1] = functional.adaptive_avg_pool2d(divided, (1, num_columns))
    return cells


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
