"""`timm:<model>`: image models on a clip's frames, or on spectrograms of its sound."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor, nn

from amr.extract.encoders.base import Prepare, PrepareEachFrame
from amr.extract.encoders.crop import NONE, Crop
from amr.extract.encoders.file_tensor import as_tensor
from amr.extract.encoders.model import ModelEncoder
from amr.extract.encoders.networks import MeanOverRows, fastest_layout
from amr.extract.encoders.registry import EncoderInfo
from amr.extract.encoders.sound.pictures import PICTURES, Picture
from amr.extract.encoders.spec import Spec, as_preprocessing, height_and_width
from amr.extract.encoders.weights import (
    WeightsFile,
    check_seed,
    find_weights,
    misfit,
    read_state,
    seeded,
    state_sha256,
)
from amr.extract.media.sampling import FrameSampling
from amr.extract.media.spool import Spool, blocks, check_frames

DEFAULT_FRAMES = {"video": 8, "audio": 1}
FRAME_OPTIONS = ("crop", "stack")
SOUND_OPTIONS = ("picture", "sample_rate", "window", "hop")
CHECK_SEED = 1  # not the seed of weights=random, whose weights may be in the file


@dataclass(frozen=True)
class TimmOptions:
    """Options of `timm`.

    Args:
        modality: Modality, frames (video) or spectrograms of the sound (audio); by default the embedding's name.
        frames: Number of frames, spread evenly (default 8), or of spectrograms of equal parts of the sound (1).
        rate: Number of frames or spectrograms per second, instead of `frames`.
        size: Size of the model's input in pixels, N or HxW; by default the model's own.
        channels: Number of channels of the model's input, 1 (gray) or 3; by default the model's own.
        crop: Part of the frames that is used, as fractions left:top:right:bottom, resized to the input without
            timm's center crop; none for all of it, with timm's own transform.
        picture: Kind of spectrogram: mel, log-mel power; spectrogram, log magnitudes as used in training from scratch.
        sample_rate: Sample rate of the sound, in Hz; by default that of the spectrogram (mel 16000, spectrogram 22050).
        window: Number of samples in one column of the spectrogram (mel 400, spectrogram 512).
        hop: Number of samples from one column to the next (mel 160, spectrogram 353).
        keep: Output: the mean over the frames or spectrograms, or one vector for each (steps).
        max_steps: Maximum number of steps, with keep=steps and rate.
        stack: Stacking: yes makes all frames the channels of one image, so that the model sees their order.
        weights: Weights: pretrained, a file, or random.
        seed: Seed of random weights.
    """

    modality: Literal["audio", "video"] = "video"
    frames: int | None = None
    rate: float | None = None
    size: str | None = None
    channels: int | None = None
    crop: str = NONE
    picture: Literal["mel", "spectrogram"] = "mel"
    sample_rate: int | None = None
    window: int | None = None
    hop: int | None = None
    keep: Literal["mean", "steps"] = "mean"
    max_steps: int = 64
    stack: Literal["no", "yes"] = "no"
    weights: str = "pretrained"
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed, self.weights)
        if self.frames is not None and self.rate is not None:
            raise ValueError(f"frames must be left out with rate, got {self.frames}. Leave out one of them.")
        for name in ("frames", "max_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}. Leave it out for its default.")
        if self.channels not in (None, 1, 3):
            raise ValueError(f"channels must be 1 or 3, got {self.channels}. Type channels=1.")
        for name in SOUND_OPTIONS if self.modality == "video" else FRAME_OPTIONS:
            value = getattr(self, name)
            if value != type(self).__dataclass_fields__[name].default:
                raise ValueError(f"{name} must be left out for modality={self.modality}, got {value}. Leave it out.")
        if self.stack == "yes" and (self.rate is not None or self.keep == "steps"):
            option = "rate" if self.rate is not None else "keep=steps"
            raise ValueError(f"stack must be no with {option}, got yes. Type frames=8 instead, or leave it out.")
        Crop.parse(self.crop)
        _ = self.sound_picture  # checks its options
        if self.pixels is not None:
            height, width = self.pixels
            object.__setattr__(self, "size", str(height) if height == width else f"{height}x{width}")

    @property
    def pixels(self) -> tuple[int, int] | None:
        """Height and width of the model's input; None for the model's own."""
        return None if self.size is None else height_and_width("size", self.size, "224")

    @property
    def num_stacked(self) -> int:
        """Number of frames in one picture."""
        return int(self.sampling.num_frames or 1) if self.stack == "yes" else 1

    @property
    def sound_picture(self) -> Picture:
        """Conversion of the sound to a picture."""
        given = {"sample_rate": self.sample_rate, "window": self.window, "hop": self.hop}
        return PICTURES[self.picture](**{name: value for name, value in given.items() if value is not None})

    @property
    def sampling(self) -> FrameSampling:
        """Sampling of the clip's pictures."""
        if self.rate is not None:
            return FrameSampling(rate_hz=self.rate)
        return FrameSampling(num_frames=self.frames or DEFAULT_FRAMES[self.modality])


class PrepareFrames(PrepareEachFrame):
    """Function from `(frames, height, width, 3)` to `(frames, channels, rows, columns)`, by timm's own transform.

    With `stack`, to `(1, frames * channels, rows, columns)`.
    """

    def __init__(
        self,
        sampling: FrameSampling,
        crop: Crop,
        transform: Callable[[Image.Image], Tensor],
        num_channels: int,
        stack: bool,
    ) -> None:
        self.sampling = sampling
        self.stack = stack
        self.crop = crop
        self.transform = transform
        self.mode = "L" if num_channels == 1 else "RGB"

    def frame(self, image: np.ndarray) -> np.ndarray:
        """Transform one frame for the model, `(channels, rows, columns)`."""
        return self.transform(Image.fromarray(self.crop.cut_to_resize(image)).convert(self.mode)).numpy()

    def join(self, frames: np.ndarray) -> Tensor:
        """Stack one clip's frames, if wanted."""
        rows = as_tensor(frames)
        return rows.flatten(0, 1)[None] if self.stack else rows


class PrepareSound(Prepare):
    """Function from `(samples,)` to `(parts, channels, rows, columns)`: one picture per equal part of the sound."""

    def __init__(self, parts: FrameSampling, picture: Picture, config: dict[str, Any]) -> None:
        self.sample_rate_hz = picture.sample_rate
        self.parts = parts
        self.picture = picture
        self.num_channels, self.height, self.width = config["input_size"]
        self.mean = torch.tensor(config["mean"])[:, None, None]
        self.std = torch.tensor(config["std"])[:, None, None]

    def __call__(self, media: np.ndarray) -> Tensor:
        """Draw one clip's spectrograms, repeated to the model's channels and normalized like its images."""
        assert self.sample_rate_hz is not None
        num_parts = min(len(self.parts.times(0, len(media) / self.sample_rate_hz)), len(media))
        check_frames(num_parts, 4 * self.num_channels * self.height * self.width)
        pictures = Spool()
        for part in blocks(media, math.ceil(len(media) / num_parts)):
            channels = self.picture.draw(part, self.height, self.width).expand(self.num_channels, -1, -1)
            pictures.append(((channels - self.mean) / self.std)[None].numpy())
        return as_tensor(pictures.finish())


class Timm(ModelEncoder):
    """The `timm` encoder."""

    def __init__(self, spec: Spec, modality: str) -> None:
        spec = _spelled(spec)
        name = str(spec.model)
        if "modality" not in spec.options:
            spec = Spec(spec.family, spec.model, {**spec.options, "modality": modality})
        options = spec.read(TimmOptions)
        self.modality = options.modality
        self.random_weights = options.weights == "random"
        self.model = _random(name, options) if self.random_weights else _read(name, options)
        self.weights_sha256 = state_sha256(self.model)
        self.embed_dim = _num_features(self.model)
        self.keep = options.keep
        self.max_steps = None if self.keep == "mean" else options.sampling.num_frames or options.max_steps
        config = _config(self.model, options)
        self.spec = spec.canonical(options)
        self.preprocessing = _preprocessing(options, config)
        if self.modality == "video":
            transform = create_transform(**config, is_training=False)
            crop, num_channels = Crop.parse(options.crop), config["input_size"][0]
            self.prepare: Prepare = PrepareFrames(
                options.sampling, crop, transform, num_channels, options.stack == "yes"
            )
        else:
            self.prepare = PrepareSound(options.sampling, options.sound_picture, config)
        self.to("cpu")

    def forward(self, rows: Tensor) -> Tensor:
        """Features `(pictures, embed_dim)`, from `(pictures, channels, rows, columns)`."""
        return self.model(fastest_layout(rows))

    def network(self) -> MeanOverRows:
        """Trainable module from `(batch, pictures, channels, rows, columns)` to `(batch, embed_dim)`."""
        return MeanOverRows(self.model)


def build(spec: Spec, name: str) -> Timm:
    """Build the encoder of a spec. The embedding's name sets the modality if the spec does not."""
    return Timm(spec, name if name in DEFAULT_FRAMES else "video")


def list_models() -> Iterable[EncoderInfo]:
    """List every model with pretrained weights."""
    for name in timm.list_pretrained():
        yield EncoderInfo(f"timm:{name}", "audio|video", None, "an image model")


def _spelled(spec: Spec) -> Spec:
    """The spec with its model spelled as timm does. All names are listed only where needed: sorting them is slow."""
    if spec.model is not None and "." not in spec.model and timm.is_model(spec.model):
        return spec
    return spec.with_model_among([*timm.list_models(), *timm.list_pretrained()])


def _random(name: str, options: TimmOptions, seed: int | None = None) -> nn.Module:
    with seeded(options.seed if seed is None else seed):
        return _create(name, options)


def _read(name: str, options: TimmOptions) -> nn.Module:
    """Model with weights from a file, which must hold all of them; timm itself would accept a file that does not."""
    path = find_weights(options.weights, _weights_file(name), f"timm:{name}")
    start = _random(name, options, CHECK_SEED)
    # Earlier versions of timm unpickle a file that they are given; the arrays of an .npz file they read without pickle.
    is_npz = path.suffix == ".npz"
    overlay = {"file": str(path), "custom_load": True} if is_npz else {"state_dict": read_state(path)}
    try:
        with seeded(CHECK_SEED):
            model: Any = _create(name, options, pretrained=True, pretrained_cfg_overlay=overlay)
    except (RuntimeError, KeyError, AttributeError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise misfit(path, [str(error).strip().split("\n")[-1].strip()]) from error
    for config in (model.pretrained_cfg, model.default_cfg):
        config.pop("state_dict", None)
    before = dict(start.named_parameters())
    untouched = [
        key
        for key, now in model.named_parameters()
        if now.numel() > 1 and torch.equal(now, before[key]) and bool((now != now.flatten()[0]).any())
    ]
    if untouched:
        raise misfit(path, untouched)
    return model


def _create(name: str, options: TimmOptions, **arguments: Any) -> nn.Module:
    arguments["num_classes"] = 0
    if options.channels is not None or options.num_stacked > 1:
        arguments["in_chans"] = (options.channels or 3) * options.num_stacked
    if options.pixels is not None:
        height, width = options.pixels
        try:
            return timm.create_model(name, img_size=height if height == width else (height, width), **arguments)
        except TypeError:
            pass  # convolutional models take any size
    return timm.create_model(name, **arguments)


def _config(model: nn.Module, options: TimmOptions) -> dict[str, Any]:
    """Settings of a model's pictures: those it was trained with, changed by the options."""
    config = resolve_model_data_config(model)
    num_channels, *pixels = config["input_size"]
    if options.channels is not None:
        num_channels = options.channels
        for key in ("mean", "std"):
            if len(config[key]) != num_channels:  # gray is normalized by the mean over the colors
                config[key] = (sum(config[key]) / len(config[key]),) * num_channels
    config["input_size"] = (num_channels, *(options.pixels or pixels))
    if options.crop != NONE:
        config |= {"crop_pct": 1.0, "crop_mode": "squash"}
    return config


def _preprocessing(options: TimmOptions, config: dict[str, Any]) -> dict[str, Any]:
    described = as_preprocessing(options, unless_default=("channels", *FRAME_OPTIONS, *SOUND_OPTIONS))
    if options.size is not None and options.size.isdecimal():
        described["size"] = int(options.size)
    described |= {"frames": options.sampling.num_frames, "images": _jsonable(config)}
    if options.modality == "video":
        return described
    return {key: value for key, value in described.items() if key not in SOUND_OPTIONS} | {
        "picture": options.sound_picture.settings
    }


def _num_features(model: Any) -> int:
    return int(getattr(model, "head_hidden_size", None) or model.num_features)


def _weights_file(name: str) -> WeightsFile | None:
    config = timm.get_pretrained_cfg(name)
    if config is None:
        return None
    if config.hf_hub_id:
        from huggingface_hub import hf_hub_url

        repo = config.hf_hub_id if not config.hf_hub_id.endswith("/") else f"{config.hf_hub_id}{name}"
        filename = config.hf_hub_filename or "model.safetensors"
        return WeightsFile(hf_hub_url(repo, filename), repo, filename)
    return WeightsFile(config.url) if config.url else None


def _jsonable(config: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in config.items()}
