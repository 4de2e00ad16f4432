"""Models of pictures, on frames; and models of video, on pieces of as many frames as they were trained with."""

from __future__ import annotations

from typing import Any

import numpy as np
import transformers
from PIL import Image
from torch import Tensor

from amr.extract.encoders.base import PrepareEachFrame
from amr.extract.encoders.crop import Crop
from amr.extract.encoders.families.huggingface.architectures import Architecture
from amr.extract.encoders.families.huggingface.encoder import HfEncoder, find_processor
from amr.extract.encoders.families.huggingface.options import DEFAULT_FRAMES, HfOptions
from amr.extract.encoders.families.huggingface.repository import Repository
from amr.extract.encoders.families.huggingface.tower import quiet
from amr.extract.encoders.file_tensor import as_tensor
from amr.extract.encoders.spec import Spec
from amr.extract.media.sampling import FrameSampling
from amr.extract.media.spool import Spool, blocks


class PreparePictures(PrepareEachFrame):
    """Function from `(frames, height, width, 3)` to `(frames, 3, rows, columns)`, by the model's own processor.

    Args:
        sampling: Frames that are used.
        crop: Part of a frame that the processor gets.
        processor: Image processor of transformers.
        piece: Number of frames in one input of a model of video, `(pieces, frames, 3, rows, columns)`; None for a
            model of pictures.
    """

    def __init__(self, sampling: FrameSampling, crop: Crop, processor: Any, piece: int | None = None) -> None:
        self.sampling = sampling
        self.crop = crop
        self.processor = processor
        self.piece = piece

    def frame(self, image: np.ndarray) -> np.ndarray:
        """Resize, crop and normalize one frame, `(3, rows, columns)`."""
        picture = Image.fromarray(np.ascontiguousarray(self.crop.cut_to_resize(image)))
        pixels = self.processor(images=[picture], return_tensors="pt")["pixel_values"]
        return pixels.float().reshape(pixels.shape[-3:]).numpy()

    def join(self, frames: np.ndarray) -> Tensor:
        """Cut one clip's frames into pieces; the last is padded with the last frame."""
        if self.piece is None:
            return as_tensor(frames)
        clips = Spool()
        for part in blocks(frames, self.piece):
            missing = self.piece - len(part)
            clips.append(np.concatenate([part, np.repeat(part[-1:], missing, axis=0)])[None])
        return as_tensor(clips.finish())


class HfPictures(HfEncoder):
    """Encoder of single frames: CLIP, SigLIP, DINOv2, ViT."""

    def __init__(self, spec: Spec, repository: Repository, architecture: Architecture, options: HfOptions) -> None:
        super().__init__(spec, repository, architecture, options)
        sampling = (
            FrameSampling(num_frames=options.frames or DEFAULT_FRAMES)
            if options.rate is None
            else FrameSampling(rate_hz=options.rate)
        )
        if self.keep == "steps":
            self.max_steps = sampling.num_frames or options.max_steps
        self.prepare = PreparePictures(sampling, Crop.parse(options.crop), _processor(repository))
        self.preprocessing |= {"frames": sampling.num_frames}


class HfVideo(HfEncoder):
    """Encoder of pieces of video: VideoMAE, TimeSformer, X-CLIP."""

    rows_at_once = 16

    def __init__(self, spec: Spec, repository: Repository, architecture: Architecture, options: HfOptions) -> None:
        super().__init__(spec, repository, architecture, options)
        num_frames = int(getattr(self.config, "vision_config", self.config).num_frames)
        sampling = FrameSampling(num_frames=num_frames) if options.rate is None else FrameSampling(rate_hz=options.rate)
        if self.keep == "steps":
            self.max_steps = 1 if options.rate is None else options.max_steps
        self.prepare = PreparePictures(sampling, Crop.parse(options.crop), _processor(repository), num_frames)
        self.preprocessing |= {"frames": num_frames}


def _processor(repository: Repository) -> Any:
    with quiet():
        return find_processor(transformers.AutoImageProcessor.from_pretrained, repository, "image processor")
