"""`torchaudio:<bundle>`: speech models on the waveform, at their own sample rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchaudio import pipelines
from torchaudio.models import wav2vec2_model, wavlm_model

from amr.extract.encoders.base import Prepare
from amr.extract.encoders.file_tensor import as_tensor
from amr.extract.encoders.model import check_max_steps
from amr.extract.encoders.registry import TORCHAUDIO_BUNDLES
from amr.extract.encoders.sound.speech import MeanOverTime
from amr.extract.encoders.sound.waveforms import WaveformEncoder, normalized
from amr.extract.encoders.spec import Spec, as_preprocessing
from amr.extract.encoders.weights import WeightsFile, check_seed, find_weights, seeded, set_weights, state_sha256
from amr.extract.media.spool import mapping_of

BASE_URL = "https://download.pytorch.org/torchaudio/models/"
FEWEST_SAMPLES = 400  # number that the convolutions need for one step
LAYER_NORM_EPS = 1e-5  # of torch's layer_norm


@dataclass(frozen=True)
class TorchaudioOptions:
    """Options of `torchaudio`.

    Args:
        layer: Layer of the transformer, counted from 1; the last by default.
        keep: Output: the mean over time, or one vector per step (steps).
        max_steps: Maximum number of steps, with keep=steps (50 are a second). Longer clips are averaged over
            this many equal parts.
        piece_seconds: Length of sound that the model hears at once. Longer clips are cut into equal pieces, whose
            steps follow each other.
        weights: Weights: pretrained, a file, or random.
        seed: Seed of random weights.
    """

    layer: int | None = None
    keep: Literal["mean", "steps"] = "mean"
    max_steps: int = 64
    piece_seconds: float = 60.0
    weights: str = "pretrained"
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed, self.weights)
        check_max_steps(self.max_steps)
        if not 1 <= self.piece_seconds <= 3600:
            raise ValueError(f"piece_seconds must be 1 to 3600, got {self.piece_seconds:g}. Pass piece_seconds=60.")


class PrepareWaveform(Prepare):
    """Function from `(samples,)` to `(samples,)`, normalized if the bundle was trained so."""

    waveform = True

    def __init__(self, sample_rate_hz: int, normalize: bool) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.normalize = normalize

    def __call__(self, media: np.ndarray) -> Tensor:
        """Prepare one clip's sound, padded with silence if it is shorter than a step."""
        if mapping_of(media) is not None:
            return as_tensor(normalized(media, LAYER_NORM_EPS).finish()) if self.normalize else as_tensor(media)
        sound = torch.from_numpy(media)
        if self.normalize:
            sound = functional.layer_norm(sound, sound.shape)
        return functional.pad(sound, (0, max(0, FEWEST_SAMPLES - len(sound))))


class Torchaudio(WaveformEncoder):
    """The `torchaudio` encoder."""

    fewest_samples = FEWEST_SAMPLES

    def __init__(self, spec: Spec) -> None:
        spec = spec.with_model_among(TORCHAUDIO_BUNDLES)
        name = str(spec.model)
        options = spec.read(TorchaudioOptions)
        bundle = getattr(pipelines, name)
        # The bundle's own get_model() accepts no file, and this is torchaudio's last release.
        parameters = {**bundle._params, "aux_num_out": None}
        num_layers = parameters["encoder_num_layers"]
        self.layer = num_layers if options.layer is None else options.layer
        if not 1 <= self.layer <= num_layers:
            raise ValueError(f"layer must be 1 to {num_layers} for {name}, got {self.layer}. Pass layer={num_layers}.")
        with seeded(options.seed):
            self.model = (wavlm_model if bundle._model_type == "WavLM" else wav2vec2_model)(**parameters)
        self.random_weights = options.weights == "random"
        if not self.random_weights:
            file = WeightsFile(BASE_URL + bundle._path)
            set_weights(self.model, find_weights(options.weights, file, f"torchaudio:{name}"), unused=("aux.",))
        self.weights_sha256 = state_sha256(self.model)
        self.embed_dim = parameters["encoder_embed_dim"]
        self.keep = options.keep
        self.max_steps = None if self.keep == "mean" else options.max_steps
        self.spec = spec.canonical(options)
        rate, normalize = int(bundle.sample_rate), bool(bundle._normalize_waveform)
        self.most_samples = round(options.piece_seconds * rate)
        self.preprocessing = {
            **as_preprocessing(options, unless_default=("piece_seconds",)),
            "layer": self.layer,
            "sample_rate": rate,
            "normalise": normalize,  # spelled as in older caches
        }
        self.prepare = PrepareWaveform(rate, normalize)
        self.to("cpu")

    def num_steps(self, num_samples: int) -> int:
        """Number of steps of a sound."""
        for block in self.model.feature_extractor.conv_layers:  # type: ignore[union-attr]
            num_samples = (num_samples - block.kernel_size) // block.stride + 1
        return num_samples

    def forward(self, rows: Tensor) -> Tensor:
        """Output of the chosen layer, `(clips, steps, embed_dim)`, from `(clips, samples)`."""
        features, _ = self.model.extract_features(rows, num_layers=self.layer)  # type: ignore[operator]
        return features[-1]

    def network(self) -> MeanOverTime:
        """Trainable module from `(batch, samples)` to `(batch, embed_dim)`."""
        return MeanOverTime(self.model, self.layer, FEWEST_SAMPLES)


def build(spec: Spec, name: str) -> Torchaudio:
    """Build the encoder of a spec."""
    return Torchaudio(spec)
