"""`timm:<model>`: image models on a clip's frames, or on pictures of its sound."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor, nn

from amr.extract.encoders.base import Prepare
from amr.extract.encoders.families import EncoderInfo
from amr.extract.encoders.model import ModelEncoder
from amr.extract.encoders.network import MeanOverRows, fastest_layout
from amr.extract.encoders.picture import PICTURE, mel_picture
from amr.extract.encoders.spec import Spec
from amr.extract.encoders.weights import Source, find_weights, misfit, seeded, state_sha256
from amr.extract.sampling import FrameSampling

DEFAULT_FRAMES = {"video": 8, "audio": 1}
CHECK_SEED = 1  # not the one of weights=random, whose weights may have been saved to a file


@dataclass(frozen=True)
class TimmOptions:
    """Options of `timm`.

    Args:
        modality: look at frames, or at log-mel pictures; by default what the embedding is named.
        frames: how many pictures of a clip: frames spread evenly (default 8), or equal parts of the sound (1).
        rate: pictures a second, instead of `frames`.
        size: of the model's input in pixels, where it is not to be the model's own.
        keep: the mean over the pictures, or a vector each.
        max_steps: with keep=steps and rate, at most so many.
        weights: pretrained, a file, or random.
    """

    modality: Literal["audio", "video"] = "video"
    frames: int | None = None
    rate: float | None = None
    size: int | None = None
    keep: Literal["mean", "steps"] = "mean"
    max_steps: int = 64
    weights: str = "pretrained"

    def __post_init__(self) -> None:
        if self.frames is not None and self.rate is not None:
            raise ValueError(f"frames must be left out with rate, got {self.frames}. Leave one out.")
        for name in ("frames", "size", "max_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")

    @property
    def sampling(self) -> FrameSampling:
        """Which pictures of a clip are looked at."""
        if self.rate is not None:
            return FrameSampling(rate_hz=self.rate)
        return FrameSampling(num_frames=self.frames or DEFAULT_FRAMES[self.modality])


class PrepareFrames(Prepare):
    """(frames, height, width, 3) to (frames, channels, rows, columns), by timm's own transform."""

    def __init__(self, sampling: FrameSampling, transform: Callable[[Image.Image], Tensor], num_channels: int) -> None:
        self.sampling = sampling
        self.transform = transform
        self.mode = "L" if num_channels == 1 else "RGB"

    def __call__(self, media: np.ndarray) -> Tensor:
        """One clip's frames as the model wants them."""
        pictures = [Image.fromarray(frame).convert(self.mode) for frame in media]
        return torch.stack([self.transform(picture) for picture in pictures])


class PrepareSound(Prepare):
    """(samples,) to (parts, channels, rows, columns): a log-mel picture of each equal part of the sound."""

    def __init__(self, parts: FrameSampling, config: dict[str, Any]) -> None:
        self.sample_rate_hz = int(PICTURE["sample_rate"])
        self.parts = parts
        self.num_channels, self.height, self.width = config["input_size"]
        self.mean = torch.tensor(config["mean"])[:, None, None]
        self.std = torch.tensor(config["std"])[:, None, None]

    def __call__(self, media: np.ndarray) -> Tensor:
        """One clip's pictures, repeated to the model's channels and normalised as its images are."""
        assert self.sample_rate_hz is not None
        num_parts = min(len(self.parts.times(0, len(media) / self.sample_rate_hz)), len(media))
        size = math.ceil(len(media) / num_parts)
        parts = torch.from_numpy(media).split(size)
        pictures = torch.stack([mel_picture(part, self.height, self.width) for part in parts])
        channels = pictures[:, None].expand(-1, self.num_channels, -1, -1)
        return (channels - self.mean) / self.std


class Timm(ModelEncoder):
    """A `timm` encoder."""

    def __init__(self, spec: Spec, modality: str) -> None:
        name = spec.model_among(_names())
        if "modality" not in spec.options:
            spec = Spec(spec.family, spec.model, {**spec.options, "modality": modality})
        options = spec.read(TimmOptions)
        self.modality = options.modality
        self.random_weights = options.weights == "random"
        self.model = _random(name, options) if self.random_weights else _loaded(name, options)
        self.weights_sha256 = state_sha256(self.model)
        self.embed_dim = _num_features(self.model)
        self.keep = options.keep
        self.max_steps = None if self.keep == "mean" else options.sampling.num_frames or options.max_steps
        config = resolve_model_data_config(self.model)
        if options.size is not None:
            config["input_size"] = (config["input_size"][0], options.size, options.size)
        self.spec = spec.canonical(options)
        told = {key: value for key, value in asdict(options).items() if key != "weights"}
        told["frames"] = options.sampling.num_frames
        self.preprocessing = {**told, "images": _jsonable(config)}
        if self.modality == "video":
            transform = create_transform(**config, is_training=False)
            self.prepare: Prepare = PrepareFrames(options.sampling, transform, config["input_size"][0])
        else:
            self.preprocessing["picture"] = PICTURE
            self.prepare = PrepareSound(options.sampling, config)
        self.to("cpu")

    def forward(self, rows: Tensor) -> Tensor:
        """(pictures, channels, rows, columns) to (pictures, embed_dim)."""
        return self.model(fastest_layout(rows))

    def network(self) -> MeanOverRows:
        """(batch, pictures, channels, rows, columns) to (batch, embed_dim)."""
        return MeanOverRows(self.model)


def build(spec: Spec, name: str) -> Timm:
    """The encoder of that spec; the embedding's name chooses the modality where the spec does not."""
    return Timm(spec, name if name in DEFAULT_FRAMES else "video")


def list_models() -> Iterable[EncoderInfo]:
    """Every model with pretrained weights."""
    for name in timm.list_pretrained():
        yield EncoderInfo(f"timm:{name}", "audio|video", None, "an image model")


def _names() -> list[str]:
    return [*timm.list_models(), *timm.list_pretrained()]


def _random(name: str, options: TimmOptions, seed: int | None = None) -> nn.Module:
    with seeded() if seed is None else seeded(seed):
        return _create(name, options)


def _loaded(name: str, options: TimmOptions) -> nn.Module:
    """The model with its weights from a file; timm itself would accept a file that lacks some of them."""
    path = find_weights(options.weights, _source(name), f"timm:{name}")
    start = _random(name, options, CHECK_SEED)
    overlay = {"file": str(path), "custom_load": path.suffix == ".npz"}
    try:
        with seeded(CHECK_SEED):
            model = _create(name, options, pretrained=True, pretrained_cfg_overlay=overlay)
    except (RuntimeError, KeyError) as error:
        raise misfit(path, [str(error).strip().split("\n")[-1].strip()]) from error
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
    if options.size is not None:
        try:
            return timm.create_model(name, img_size=options.size, **arguments)
        except TypeError:
            pass  # a convolutional model, which takes any size as it is
    return timm.create_model(name, **arguments)


def _num_features(model: Any) -> int:
    return int(getattr(model, "head_hidden_size", None) or model.num_features)


def _source(name: str) -> Source | None:
    config = timm.get_pretrained_cfg(name)
    if config is None:
        return None
    if config.hf_hub_id:
        from huggingface_hub import hf_hub_url

        repo = config.hf_hub_id if not config.hf_hub_id.endswith("/") else f"{config.hf_hub_id}{name}"
        filename = config.hf_hub_filename or "model.safetensors"
        return Source(hf_hub_url(repo, filename), repo, filename)
    return Source(config.url) if config.url else None


def _jsonable(config: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in config.items()}
