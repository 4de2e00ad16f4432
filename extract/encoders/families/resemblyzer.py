"""`resemblyzer`: a speaker encoder, who speaks and how (Wan et al. 2018), by the weights in the package Resemblyzer.

Only the file of weights is read: the package's own code needs a compiler, and trims silences, which is not done here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from amr.extract.encoders.base import Prepare
from amr.extract.encoders.file_tensor import as_tensor
from amr.extract.encoders.model import ModelEncoder, at_most, check_max_steps
from amr.extract.encoders.networks import MeanOverRows
from amr.extract.encoders.sound.windows import pieces
from amr.extract.encoders.spec import Spec, as_preprocessing
from amr.extract.encoders.weights import check_seed, find_weights, seeded, set_weights, state_sha256
from amr.extract.media.spool import Spool, blocks

if TYPE_CHECKING:
    from torchaudio.transforms import MelSpectrogram

SAMPLE_RATE_HZ = 16000
WINDOW_SAMPLES, HOP_SAMPLES, NUM_BANDS = 400, 160, 40
PART_WINDOWS = 160  # 1.6 s of sound that the model hears at once
PART_STEP = 77  # windows from one part to the next: 1.3 parts per second
MIN_COVERAGE = 0.75  # of the last part, or it is left out
LOUDNESS_DBFS = -30.0  # to which quieter sounds are amplified
WIDTH = 256
BLOCK_SAMPLES = 1 << 20
PACKAGE, FILE = "resemblyzer", "pretrained.pt"


@dataclass(frozen=True)
class ResemblyzerOptions:
    """Options of `resemblyzer`.

    Args:
        keep: Output: the mean over the parts of the sound, or one vector for each (steps).
        max_steps: Maximum number of steps, with keep=steps (1.3 are a second).
        weights: Weights: pretrained (those in the installed package), a file, or random.
        seed: Seed of random weights.
    """

    keep: Literal["mean", "steps"] = "mean"
    max_steps: int = 64
    weights: str = "pretrained"
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed, self.weights)
        check_max_steps(self.max_steps)


class PrepareParts(Prepare):
    """Function from `(samples,)` to `(parts, windows, bands)`: mel power of overlapping parts of 1.6 s."""

    sample_rate_hz = SAMPLE_RATE_HZ

    def __call__(self, media: np.ndarray) -> Tensor:
        """Parts of one clip's sound, amplified if it is quiet; the last is padded with silence."""
        starts = part_starts(len(media))
        num_samples = (starts[-1] + PART_WINDOWS) * HOP_SAMPLES
        bands = Spool()
        for piece in pieces(_amplified(media, num_samples), WINDOW_SAMPLES, HOP_SAMPLES):
            bands.append(_mel()(piece).T.contiguous().numpy())
        windows = bands.finish()
        parts = Spool()
        for start in starts:
            parts.append(windows[None, start : start + PART_WINDOWS])
        return as_tensor(parts.finish())


def part_starts(num_samples: int) -> list[int]:
    """First window of each part of a sound.

    >>> part_starts(16000), part_starts(48000)
    ([0], [0, 77, 154])
    """
    num_windows = math.ceil((num_samples + 1) / HOP_SAMPLES)
    starts = list(range(0, max(1, num_windows - PART_WINDOWS + PART_STEP + 1), PART_STEP))
    covered = (num_samples - starts[-1] * HOP_SAMPLES) / (PART_WINDOWS * HOP_SAMPLES)
    return starts[:-1] if covered < MIN_COVERAGE and len(starts) > 1 else starts


def _amplified(sound: np.ndarray, num_samples: int) -> np.ndarray:
    """Sound of at least `num_samples`, padded with silence, at the loudness that the model knows or above."""
    power = sum(float(np.square(block, dtype=np.float64).sum()) for block in blocks(sound, BLOCK_SAMPLES)) / len(sound)
    scale = max(1.0, 10 ** (LOUDNESS_DBFS / 20) / math.sqrt(power)) if power > 0 else 1.0
    result = Spool()
    for block in blocks(sound, BLOCK_SAMPLES):
        result.append((block * scale).astype(np.float32))
    result.append(np.zeros(max(0, num_samples - len(sound)), np.float32))
    return result.finish()


@cache
def _mel() -> MelSpectrogram:
    from torchaudio.transforms import MelSpectrogram

    return MelSpectrogram(
        SAMPLE_RATE_HZ,
        n_fft=WINDOW_SAMPLES,
        hop_length=HOP_SAMPLES,
        n_mels=NUM_BANDS,
        center=False,
        norm="slaney",
        mel_scale="slaney",
    )


class SpeakerModel(nn.Module):
    """Three LSTM layers, whose last state becomes a vector of length 1, all of whose values are at least 0."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(NUM_BANDS, WIDTH, num_layers=3, batch_first=True)
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, parts: Tensor) -> Tensor:
        """Vectors `(parts, 256)`, from `(parts, windows, bands)`."""
        _, (states, _) = self.lstm(parts)
        return functional.normalize(self.linear(states[-1]).relu(), dim=1)


class NormalizedMean(MeanOverRows):
    """The mean of a clip's vectors, at length 1 again."""

    def forward(self, clips: Tensor) -> Tensor:
        """Embeddings `(batch, 256)`, from `(batch, parts, windows, bands)`."""
        return functional.normalize(super().forward(clips), dim=1)


class Resemblyzer(ModelEncoder):
    """The `resemblyzer` encoder."""

    modality = "audio"
    embed_dim = WIDTH

    def __init__(self, spec: Spec) -> None:
        options = spec.read(ResemblyzerOptions)
        with seeded(options.seed):
            self.model = SpeakerModel()
        self.random_weights = options.weights == "random"
        if not self.random_weights:
            file = (
                _file_in_package() if options.weights == "pretrained" else find_weights(options.weights, None, PACKAGE)
            )
            set_weights(self.model, file, unused=("similarity_",))
        self.weights_sha256 = state_sha256(self.model)
        self.keep = options.keep
        self.max_steps = None if self.keep == "mean" else options.max_steps
        self.spec = spec.canonical(options)
        self.preprocessing = {
            **as_preprocessing(options),
            "sample_rate": SAMPLE_RATE_HZ,
            "bands": NUM_BANDS,
            "part_windows": PART_WINDOWS,
            "part_step": PART_STEP,
            "loudness_dbfs": LOUDNESS_DBFS,
        }
        self.prepare = PrepareParts()
        self.to("cpu")

    def forward(self, rows: Tensor) -> Tensor:
        """Vectors `(parts, 256)`, from `(parts, windows, bands)`."""
        return self.model(rows)

    def pool(self, steps: Tensor) -> Tensor:
        """Pool the vectors of a clip's parts."""
        if self.keep == "mean":
            return functional.normalize(steps.mean(0), dim=0)
        return at_most(steps, self.max_steps or len(steps))

    def network(self) -> NormalizedMean:
        """Trainable module from `(batch, parts, windows, bands)` to `(batch, 256)`."""
        return NormalizedMean(self.model)


def build(spec: Spec, name: str) -> Resemblyzer:
    """Build the encoder of a spec."""
    if spec.model is not None:
        raise ValueError(f"resemblyzer must be given without a model, got {str(spec)!r}. Type resemblyzer.")
    return Resemblyzer(spec)


def _file_in_package() -> Path:
    found = find_spec(PACKAGE)
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        if (path := Path(folder) / FILE).is_file():
            return path
    raise FileNotFoundError(
        "weights of resemblyzer must be in the package Resemblyzer, got none. "
        "Type pip install --no-deps Resemblyzer, or pass weights=FILE."
    )
