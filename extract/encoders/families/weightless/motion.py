"""`motion`: how much each cell of a grid changes from frame to frame, over equal parts of a clip. No weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from amr.extract.encoders.base import PrepareEachFrame, WeightFreeEncoder
from amr.extract.encoders.crop import NONE, Crop
from amr.extract.encoders.families.weightless.frames import LUMA, cell_means
from amr.extract.encoders.sound.windows import PartMeans
from amr.extract.encoders.spec import Spec, as_preprocessing, height_and_width
from amr.extract.media.sampling import FrameSampling
from amr.extract.media.spool import forget

DETAIL = 8  # points of a cell in each direction, at which frames are compared
FRAMES_AT_ONCE = 64


@dataclass(frozen=True)
class MotionOptions:
    """Options of `motion`.

    Args:
        rate: Number of frames per second that are compared, each with the one before.
        grid: Cells of a frame, HxW, or one number for a square.
        steps: Number of equal parts of the clip over which differences are averaged.
        crop: Part of the frame that is used, as fractions left:top:right:bottom; none for all of it.
        keep: Output: all parts as one vector (flat), or one vector per part (steps).
    """

    rate: float = 10.0
    grid: str = "8x8"
    steps: int = 10
    crop: str = NONE
    keep: Literal["flat", "steps"] = "flat"

    def __post_init__(self) -> None:
        if not 0 < self.rate < math.inf:
            raise ValueError(f"rate must be above 0, got {self.rate:g}. Pass rate=10.")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}. Pass steps=10.")
        height, width = self.cells
        object.__setattr__(self, "grid", f"{height}x{width}")
        Crop.parse(self.crop)

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return height_and_width("grid", self.grid, "8x8")


class PrepareMotion(PrepareEachFrame):
    """Function from `(frames, height, width, 3)` to `(steps * cells,)` or `(steps, cells)`, from 0 to 1."""

    def __init__(self, options: MotionOptions) -> None:
        self.options = options
        self.sampling = FrameSampling(rate_hz=options.rate)
        self.crop = Crop.parse(options.crop)

    def frame(self, image: np.ndarray) -> np.ndarray:
        """Gray levels of one frame, from 0 (black) to 1, `(rows * DETAIL, columns * DETAIL)`."""
        rows, columns = self.options.cells
        points = cell_means(self.crop.cut(image[None])[0], rows * DETAIL, columns * DETAIL)
        return (points @ LUMA).astype(np.float32)

    def join(self, frames: np.ndarray) -> Tensor:
        """Mean absolute difference of consecutive frames in each cell and part. One frame alone has no motion."""
        rows, columns = self.options.cells
        if len(frames) < 2:
            return self._shaped(torch.zeros(self.options.steps, rows * columns))
        means = PartMeans(len(frames) - 1, self.options.steps)
        for first in range(0, len(frames) - 1, FRAMES_AT_ONCE):
            levels = frames[first : first + FRAMES_AT_ONCE + 1]  # the last of them is the first of the next
            changes = np.abs(np.diff(levels, axis=0)).reshape(-1, rows, DETAIL, columns, DETAIL).mean((2, 4))
            means.add(torch.from_numpy(changes.reshape(-1, rows * columns)))
            forget(frames)
        return self._shaped(means.means().float())

    def _shaped(self, steps: Tensor) -> Tensor:
        return steps if self.options.keep == "steps" else steps.flatten()


class Motion(WeightFreeEncoder):
    """The `motion` encoder."""

    modality = "video"

    def __init__(self, spec: Spec) -> None:
        options = spec.read(MotionOptions)
        num_cells = math.prod(options.cells)
        flat = options.keep == "flat"
        self.spec = spec.canonical(options)
        self.embed_dim = num_cells * options.steps if flat else num_cells
        self.max_steps = None if flat else options.steps
        self.preprocessing = {**as_preprocessing(options), "detail": DETAIL}
        self.prepare = PrepareMotion(options)


def build(spec: Spec, name: str) -> Motion:
    """Build the encoder of a spec."""
    if spec.model is not None:
        raise ValueError(f"motion must be given without a model, got {str(spec)!r}. Type motion,rate=10.")
    return Motion(spec)
