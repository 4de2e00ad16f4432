"""`vggish`: VGGish on log-mel pictures of 0.96 s each (Hershey et al. 2017), as the package torchvggish computes it.

Embeddings are those of the network, not its PCA with 8-bit quantization, in which AudioSet was published.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from amr.extract.encoders.base import Prepare
from amr.extract.encoders.file_tensor import as_tensor
from amr.extract.encoders.model import ModelEncoder, check_max_steps
from amr.extract.encoders.networks import MeanOverRows
from amr.extract.encoders.spec import Spec, as_preprocessing
from amr.extract.encoders.weights import WeightsFile, check_seed, find_weights, seeded, set_weights, state_sha256
from amr.extract.media.spool import Spool, forget

WEIGHTS = WeightsFile("https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth")
SAMPLE_RATE_HZ = 16000
WINDOW_SAMPLES, HOP_SAMPLES, FFT_SAMPLES = 400, 160, 512
NUM_BANDS, LOWEST_HZ, HIGHEST_HZ = 64, 125.0, 7500.0
FLOOR = 0.01  # added to magnitudes before the logarithm
PICTURE_WINDOWS = 96
PICTURE_SAMPLES = WINDOW_SAMPLES + (PICTURE_WINDOWS - 1) * HOP_SAMPLES
STEP_SAMPLES = PICTURE_WINDOWS * HOP_SAMPLES  # from one picture to the next
PICTURES_AT_ONCE = 64
WIDTH = 128


@dataclass(frozen=True)
class VggishOptions:
    """Options of `vggish`.

    Args:
        keep: Output: the mean over the pictures, or one vector for each (steps).
        max_steps: Maximum number of steps, with keep=steps (one is 0.96 s).
        weights: Weights: pretrained, a file, or random.
        seed: Seed of random weights.
    """

    keep: Literal["mean", "steps"] = "mean"
    max_steps: int = 64
    weights: str = "pretrained"
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed, self.weights)
        check_max_steps(self.max_steps)


class PreparePictures(Prepare):
    """Function from `(samples,)` to `(pictures, 1, windows, bands)`."""

    sample_rate_hz = SAMPLE_RATE_HZ

    def __call__(self, media: np.ndarray) -> Tensor:
        """Pictures of one clip's sound. A rest shorter than a picture is left out; a shorter clip is padded."""
        if len(media) < PICTURE_SAMPLES:
            media = np.pad(media, (0, PICTURE_SAMPLES - len(media)))
        num = 1 + (len(media) - PICTURE_SAMPLES) // STEP_SAMPLES
        pictures = Spool()
        for first in range(0, num, PICTURES_AT_ONCE):
            last = min(first + PICTURES_AT_ONCE, num) - 1
            sound = media[first * STEP_SAMPLES : last * STEP_SAMPLES + PICTURE_SAMPLES]
            windows = log_mel(torch.from_numpy(np.array(sound)))
            pictures.append(windows.reshape(-1, 1, PICTURE_WINDOWS, NUM_BANDS).numpy())
            forget(media)
        return as_tensor(pictures.finish())


def log_mel(sound: Tensor) -> Tensor:
    """Log-mel magnitudes `(windows, bands)` of the whole windows of a sound `(samples,)`."""
    window = torch.hann_window(WINDOW_SAMPLES)
    spectra = torch.fft.rfft(sound.unfold(0, WINDOW_SAMPLES, HOP_SAMPLES) * window, FFT_SAMPLES)
    return (spectra.abs() @ mel_matrix() + FLOOR).log()


@cache
def mel_matrix() -> Tensor:
    """Weights `(frequencies, bands)` of triangles on the mel scale, as in HTK; torchaudio's are on that of Hz."""
    frequencies = torch.linspace(0, SAMPLE_RATE_HZ / 2, FFT_SAMPLES // 2 + 1, dtype=torch.float64)
    low, high = _mel(torch.tensor([LOWEST_HZ, HIGHEST_HZ], dtype=torch.float64)).tolist()
    edges = torch.linspace(low, high, NUM_BANDS + 2, dtype=torch.float64)
    slopes = (_mel(frequencies)[:, None] - edges[:-1]) / edges.diff()  # (frequencies, bands + 1)
    weights = torch.minimum(slopes[:, :-1], 1 - slopes[:, 1:]).clamp(min=0)
    weights[0] = 0  # HTK leaves out 0 Hz
    return weights.float()


def _mel(hertz: Tensor) -> Tensor:
    return 1127 * (1 + hertz / 700).log()


class VggishModel(nn.Module):
    """VGGish, with the names of torchvggish's weights."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for width in (64, None, 128, None, 256, 256, None, 512, 512, None):
            if width is None:
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
        self.features = nn.Sequential(*layers)
        sizes = (512 * 4 * 6, 4096, 4096, WIDTH)
        linear = [[nn.Linear(a, b), nn.ReLU()] for a, b in pairwise(sizes)]
        self.embeddings = nn.Sequential(*[layer for pair in linear for layer in pair])

    def forward(self, pictures: Tensor) -> Tensor:
        """Vectors `(pictures, 128)`, from `(pictures, 1, windows, bands)`."""
        features = self.features(pictures)  # (pictures, 512, 6, 4)
        return self.embeddings(features.permute(0, 2, 3, 1).flatten(1))


class Vggish(ModelEncoder):
    """The `vggish` encoder."""

    modality = "audio"
    embed_dim = WIDTH

    def __init__(self, spec: Spec) -> None:
        options = spec.read(VggishOptions)
        with seeded(options.seed):
            self.model = VggishModel()
        self.random_weights = options.weights == "random"
        if not self.random_weights:
            set_weights(self.model, find_weights(options.weights, WEIGHTS, "vggish"), unused=("pproc.",))
        self.weights_sha256 = state_sha256(self.model)
        self.keep = options.keep
        self.max_steps = None if self.keep == "mean" else options.max_steps
        self.spec = spec.canonical(options)
        self.preprocessing = {
            **as_preprocessing(options),
            "sample_rate": SAMPLE_RATE_HZ,
            "window_samples": WINDOW_SAMPLES,
            "hop_samples": HOP_SAMPLES,
            "fft_samples": FFT_SAMPLES,
            "bands": NUM_BANDS,
            "band_hertz": [LOWEST_HZ, HIGHEST_HZ],
            "floor": FLOOR,
            "picture_windows": PICTURE_WINDOWS,
        }
        self.prepare = PreparePictures()
        self.to("cpu")

    def forward(self, rows: Tensor) -> Tensor:
        """Vectors `(pictures, 128)`, from `(pictures, 1, windows, bands)`."""
        return self.model(rows)

    def network(self) -> MeanOverRows:
        """Trainable module from `(batch, pictures, 1, windows, bands)` to `(batch, 128)`."""
        return MeanOverRows(self.model)


def build(spec: Spec, name: str) -> Vggish:
    """Build the encoder of a spec."""
    if spec.model is not None:
        raise ValueError(f"vggish must be given without a model, got {str(spec)!r}. Type vggish.")
    return Vggish(spec)
