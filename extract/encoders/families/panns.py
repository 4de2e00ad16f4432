"""`panns:<model>`: audio networks trained on AudioSet (PANNs, Kong et al. 2020), as panns-inference computes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from amr.extract.encoders.base import Prepare
from amr.extract.encoders.file_tensor import as_tensor
from amr.extract.encoders.model import ModelEncoder, check_max_steps, rows_of_all
from amr.extract.encoders.networks import MeanOverRows
from amr.extract.encoders.registry import PANNS_MODELS
from amr.extract.encoders.spec import Spec, as_preprocessing
from amr.extract.encoders.weights import WeightsFile, check_seed, find_weights, seeded, set_weights, state_sha256
from amr.extract.media.spool import Spool, forget

if TYPE_CHECKING:
    from torchaudio.transforms import MelSpectrogram

BASE_URL = "https://zenodo.org/records/3987831/files/"
NUM_BANDS = 64
FLOOR = 1e-10  # of the power, before the logarithm
MIN_WINDOWS = 32  # that five halvings need
UNUSED = ("spectrogram_extractor.", "logmel_extractor.", "fc_audioset.")  # tensors of the file
CHANNELS = (64, 128, 256, 512, 1024, 2048)


@dataclass(frozen=True)
class FrontEnd:
    """Log-mel spectrogram that a network was trained with.

    Attributes:
        file: Name of its weights' file.
        sample_rate: Sample rate of the sound, in Hz.
        window: Number of samples in one window.
        hop: Number of samples from one window to the next.
        highest_hertz: Upper end of the bands, which begin at 50 Hz.
    """

    file: str
    sample_rate: int
    window: int
    hop: int
    highest_hertz: float
    lowest_hertz: float = 50.0


FRONT_ENDS = {
    "Cnn14": FrontEnd("Cnn14_mAP=0.431.pth", 32000, 1024, 320, 14000.0),
    "Cnn14_16k": FrontEnd("Cnn14_16k_mAP=0.438.pth", 16000, 512, 160, 8000.0),
}


@dataclass(frozen=True)
class PannsOptions:
    """Options of `panns`.

    Args:
        piece_seconds: Length of sound that the network hears at once, as long as the clips it was trained on. Longer
            clips are cut into pieces of equal length, which cover them and overlap as little as possible.
        keep: Output: the mean over the pieces, or one vector per piece (steps).
        max_steps: Maximum number of steps, with keep=steps.
        weights: Weights: pretrained, a file, or random.
        seed: Seed of random weights.
    """

    piece_seconds: float = 10.0
    keep: Literal["mean", "steps"] = "mean"
    max_steps: int = 64
    weights: str = "pretrained"
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed, self.weights)
        check_max_steps(self.max_steps)
        if not 1 <= self.piece_seconds <= 600:
            raise ValueError(f"piece_seconds must be 1 to 600, got {self.piece_seconds:g}. Pass piece_seconds=10.")


class PreparePieces(Prepare):
    """Function from `(samples,)` to `(pieces, 1, windows, bands)`."""

    def __init__(self, front_end: FrontEnd, piece_seconds: float) -> None:
        self.front_end = front_end
        self.sample_rate_hz = front_end.sample_rate
        self.most_samples = round(piece_seconds * front_end.sample_rate)

    def __call__(self, media: np.ndarray) -> Tensor:
        """Log-mel power of one clip's sound, in decibels. A sound too short for the network is padded with silence."""
        if len(media) < (least := (MIN_WINDOWS - 1) * self.front_end.hop):
            media = np.pad(media, (0, least - len(media)))
        rows = Spool()
        for start, length in pieces(len(media), self.most_samples):
            power = _mel(self.front_end)(torch.from_numpy(np.array(media[start : start + length])))
            rows.append((10 * power.clamp(min=FLOOR).log10()).T[None, None].contiguous().numpy())
            forget(media)
        return as_tensor(rows.finish())


def pieces(num_samples: int, most_samples: int) -> list[tuple[int, int]]:
    """Start and length of pieces of equal length that cover a sound.

    >>> pieces(9, 10), pieces(25, 10)
    ([(0, 9)], [(0, 9), (8, 9), (16, 9)])
    """
    num = math.ceil(num_samples / most_samples)
    length = math.ceil(num_samples / num)
    return [(piece * (num_samples - length) // max(1, num - 1), length) for piece in range(num)]


@cache
def _mel(front_end: FrontEnd) -> MelSpectrogram:
    from torchaudio.transforms import MelSpectrogram

    return MelSpectrogram(
        front_end.sample_rate,
        n_fft=front_end.window,
        hop_length=front_end.hop,
        f_min=front_end.lowest_hertz,
        f_max=front_end.highest_hertz,
        n_mels=NUM_BANDS,
        pad_mode="reflect",
        norm="slaney",
        mel_scale="slaney",
    )


class ConvBlock(nn.Module):
    """Two convolutions with batch normalization."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps of the same height and width."""
        return self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()


class Cnn14(nn.Module):
    """CNN14 without its classifier, with the names of the published weights."""

    def __init__(self) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(NUM_BANDS)
        widths = (1, *CHANNELS)
        for number, (channels, width) in enumerate(pairwise(widths), start=1):
            setattr(self, f"conv_block{number}", ConvBlock(channels, width))
        self.fc1 = nn.Linear(CHANNELS[-1], CHANNELS[-1])

    def forward(self, rows: Tensor) -> Tensor:
        """Vectors `(rows, 2048)`, from `(rows, 1, windows, bands)`."""
        x = self.bn0(rows.transpose(1, 3)).transpose(1, 3)
        for number in range(1, len(CHANNELS) + 1):
            x = getattr(self, f"conv_block{number}")(x)
            if number < len(CHANNELS):
                x = functional.avg_pool2d(x, 2)
            x = functional.dropout(x, 0.2, self.training)
        x = x.mean(3)  # (rows, channels, time)
        x = functional.dropout(x.amax(2) + x.mean(2), 0.5, self.training)
        return self.fc1(x).relu()


class Panns(ModelEncoder):
    """The `panns` encoder."""

    modality = "audio"
    embed_dim = CHANNELS[-1]
    rows_at_once = 8

    def __init__(self, spec: Spec) -> None:
        spec = spec.with_model_among(PANNS_MODELS)
        name = str(spec.model)
        options, front_end = spec.read(PannsOptions), FRONT_ENDS[name]
        with seeded(options.seed):
            self.model = Cnn14()
        self.random_weights = options.weights == "random"
        if not self.random_weights:
            file = WeightsFile(BASE_URL + front_end.file)
            set_weights(self.model, find_weights(options.weights, file, f"panns:{name}"), unused=UNUSED)
        self.weights_sha256 = state_sha256(self.model)
        self.keep = options.keep
        self.max_steps = None if self.keep == "mean" else options.max_steps
        self.spec = spec.canonical(options)
        self.preprocessing = {
            **as_preprocessing(options),
            "sample_rate": front_end.sample_rate,
            "window_samples": front_end.window,
            "hop_samples": front_end.hop,
            "bands": NUM_BANDS,
            "band_hertz": [front_end.lowest_hertz, front_end.highest_hertz],
            "floor": FLOOR,
        }
        self.prepare = PreparePieces(front_end, options.piece_seconds)
        self.to("cpu")

    def embed(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Pass the pieces of each clip through the model; those of clips of other lengths have other shapes.

        Args:
            inputs: Log-mel power of each clip, `(pieces, 1, windows, bands)`.
        """
        return [
            self.pool(torch.cat([self.features(rows) for rows in rows_of_all([clip], self.rows_at_once)]))
            for clip in inputs
        ]

    def forward(self, rows: Tensor) -> Tensor:
        """Vectors `(pieces, 2048)`, from `(pieces, 1, windows, bands)`."""
        return self.model(rows)

    def network(self) -> MeanOverRows:
        """Trainable module from `(batch, pieces, 1, windows, bands)` to `(batch, 2048)`."""
        return MeanOverRows(self.model)


def build(spec: Spec, name: str) -> Panns:
    """Build the encoder of a spec."""
    return Panns(spec)
