"""`torchvision:<model>`: video models trained on Kinetics-400, with their own transforms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum, get_model, get_model_weights

from amr.extract.encoders.base import PrepareEachFrame
from amr.extract.encoders.crop import NONE, Crop
from amr.extract.encoders.file_tensor import as_tensor
from amr.extract.encoders.model import ModelEncoder
from amr.extract.encoders.networks import MeanOverRows
from amr.extract.encoders.registry import TORCHVISION_MODELS
from amr.extract.encoders.spec import Spec, as_preprocessing
from amr.extract.encoders.weights import WeightsFile, check_seed, find_weights, seeded, set_weights, state_sha256
from amr.extract.media.sampling import FrameSampling
from amr.extract.media.spool import Spool, blocks

CLASSIFIERS = ("fc", "classifier", "head")  # name of the classifier in the various models
WITH_POSITIONS = ("mvit_v1_b", "mvit_v2_s")  # these need exactly as many frames as they were trained with


@dataclass(frozen=True)
class TorchvisionOptions:
    """Options of `torchvision`.

    Args:
        frames: Number of frames that go through the model together.
        rate: Number of frames per second. The clip is then cut into pieces of `frames`, the last padded with its last
            frame. Without it, one piece of `frames` spread evenly over the clip.
        crop: Part of the frames that is passed to the weights' own transform, as fractions left:top:right:bottom;
            none for all of it.
        keep: Output: the mean over the pieces, or one vector per piece (steps).
        max_steps: Maximum number of steps, with keep=steps and rate.
        weights: Weights: pretrained, a file, or random.
        seed: Seed of random weights.
    """

    frames: int = 16
    rate: float | None = None
    crop: str = NONE
    keep: Literal["mean", "steps"] = "mean"
    max_steps: int = 64
    weights: str = "pretrained"
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed, self.weights)
        for name in ("frames", "max_steps"):
            if getattr(self, name) < 1:
                default = type(self).__dataclass_fields__[name].default
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}. Pass {name}={default}.")
        Crop.parse(self.crop)

    @property
    def sampling(self) -> FrameSampling:
        """Sampling of the clip's frames."""
        if self.rate is None:
            return FrameSampling(num_frames=self.frames)
        return FrameSampling(rate_hz=self.rate)


class PreparePieces(PrepareEachFrame):
    """Function from `(frames, height, width, 3)` to `(pieces, 3, frames per piece, rows, columns)`."""

    def __init__(self, options: TorchvisionOptions, transform: nn.Module) -> None:
        self.sampling = options.sampling
        self.num_frames = options.frames
        self.crop = Crop.parse(options.crop)
        self.transform = transform

    def frame(self, image: np.ndarray) -> np.ndarray:
        """Crop one frame, then resize and normalize it as the weights require, `(3, rows, columns)`."""
        pixels = torch.from_numpy(np.ascontiguousarray(self.crop.cut_to_resize(image)))[None]
        return self.transform(pixels.permute(0, 3, 1, 2))[:, 0].numpy()

    def join(self, frames: np.ndarray) -> Tensor:
        """Cut one clip's frames into pieces; the last is padded with the last frame."""
        clips = Spool()
        for piece in blocks(frames, self.num_frames):
            missing = self.num_frames - len(piece)
            padded = np.concatenate([piece, np.repeat(piece[-1:], missing, axis=0)])
            clips.append(np.ascontiguousarray(padded.swapaxes(0, 1))[None])
        return as_tensor(clips.finish())


class Torchvision(ModelEncoder):
    """The `torchvision` encoder."""

    modality = "video"
    rows_at_once = 16

    def __init__(self, spec: Spec) -> None:
        spec = spec.with_model_among(TORCHVISION_MODELS)
        name = str(spec.model)
        options = spec.read(TorchvisionOptions)
        published: WeightsEnum = get_model_weights(name).DEFAULT
        _check_frames(name, options.frames, published.meta.get("min_temporal_size", 1))
        with seeded(options.seed):
            self.model = get_model(name, weights=None)
        self.embed_dim = _cut_classifier(self.model)
        self.random_weights = options.weights == "random"
        if not self.random_weights:
            file = find_weights(options.weights, WeightsFile(published.url), f"torchvision:{name}")
            set_weights(self.model, file, unused=tuple(f"{each}." for each in CLASSIFIERS))
        self.weights_sha256 = state_sha256(self.model)
        transform = published.transforms()
        self.keep = options.keep
        self.max_steps = None if self.keep == "mean" else 1 if options.rate is None else options.max_steps
        self.spec = spec.canonical(options)
        self.preprocessing = {
            **as_preprocessing(options, unless_default=("crop",)),
            "transform": " ".join(repr(transform).split()),
        }
        self.prepare = PreparePieces(options, transform)
        self.to("cpu")

    def forward(self, rows: Tensor) -> Tensor:
        """Features `(pieces, embed_dim)`, from `(pieces, 3, frames, rows, columns)`."""
        return self.model(rows)

    def network(self) -> MeanOverRows:
        """Trainable module from `(batch, pieces, 3, frames, rows, columns)` to `(batch, embed_dim)`."""
        return MeanOverRows(self.model)


def build(spec: Spec, name: str) -> Torchvision:
    """Build the encoder of a spec."""
    return Torchvision(spec)


def _check_frames(name: str, frames: int, least: int) -> None:
    exactly = name in WITH_POSITIONS
    if frames < least or (exactly and frames != least):
        rule = "exactly" if exactly else "at least"
        raise ValueError(f"frames must be {rule} {least} for {name}, got {frames}. Type frames={least}.")


def _cut_classifier(model: nn.Module) -> int:
    """Remove the classifier, and return the length of its input."""
    (name,) = [each for each in CLASSIFIERS if hasattr(model, each)]
    layers = list(getattr(model, name).modules())
    (last,) = [layer for layer in layers if isinstance(layer, (nn.Linear, nn.Conv3d))]
    setattr(model, name, nn.Identity())
    return last.in_features if isinstance(last, nn.Linear) else last.in_channels
