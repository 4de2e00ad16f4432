"""`logmel`: log-mel bands averaged over equal parts of a clip. No weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from amr.extract.encoders.base import Prepare, WeightFreeEncoder
from amr.extract.encoders.sound.windows import PartMeans, is_long, num_windows, pieces
from amr.extract.encoders.spec import Spec

if TYPE_CHECKING:
    from torchaudio.transforms import MelSpectrogram

WINDOW_SECONDS = 0.025
HOP_SECONDS = 0.010
FFT_WINDOWS = 2.56  # the transform is this much longer than the window, or low bands would fall between its frequencies
FLOOR = 1e-6  # power below this is silence: about -60 dB of a full-scale tone


@dataclass(frozen=True)
class LogMelOptions:
    """Options of `logmel`.

    Args:
        sample_rate: Sample rate of the sound, in Hz.
        bands: Number of mel bands, from 0 Hz to half the sample rate.
        steps: Number of equal parts of the clip over which bands are averaged.
        stat: Statistic of each band in each part: the mean, or the mean and then the standard deviation.
        keep: Output: all parts as one vector (flat), or one vector per part (steps).
    """

    sample_rate: int = 16000
    bands: int = 40
    steps: int = 10
    stat: Literal["mean", "mean+std"] = "mean+std"
    keep: Literal["flat", "steps"] = "flat"

    def __post_init__(self) -> None:
        for name, least in (("sample_rate", 1000), ("bands", 1), ("steps", 1)):
            if getattr(self, name) < least:
                default = type(self).__dataclass_fields__[name].default
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}. Pass {name}={default}.")


class PrepareLogMel(Prepare):
    """Function from `(samples,)` to `(steps * dim,)` or `(steps, dim)`."""

    def __init__(self, options: LogMelOptions) -> None:
        self.options = options
        self.sample_rate_hz = options.sample_rate

    def __call__(self, media: np.ndarray) -> Tensor:
        """Log-mel bands of one clip's sound, padded with silence at both ends."""
        mean_and_square = self._in_pieces if is_long(len(media), self._fft_samples, self._hop_samples) else self._whole
        steps, squares = mean_and_square(media)  # (bands, steps)
        if self.options.stat == "mean+std":
            steps = torch.cat([steps, (squares - steps.square()).clamp(min=0).sqrt()])
        steps = steps.T.float().contiguous()  # (steps, dim)
        return steps if self.options.keep == "steps" else steps.flatten()

    def _whole(self, sound: np.ndarray) -> tuple[Tensor, Tensor]:
        """Means of the bands and of their squares, each `(bands, steps)`."""
        bands = self._bands(torch.from_numpy(sound))  # (bands, windows)
        means = functional.adaptive_avg_pool1d(bands, self.options.steps)
        return means, functional.adaptive_avg_pool1d(bands.square(), self.options.steps)

    def _in_pieces(self, sound: np.ndarray) -> tuple[Tensor, Tensor]:
        """The same in constant memory, and in float64."""
        num = num_windows(len(sound), self._fft_samples, self._hop_samples)
        means, squares = (PartMeans(num, self.options.steps) for _ in range(2))
        for piece in pieces(sound, self._fft_samples, self._hop_samples):
            bands = self._bands(piece, center=False).T.double()  # (windows, bands)
            means.add(bands)
            squares.add(bands.square())
        return means.means().T, squares.means().T

    def _bands(self, sound: Tensor, *, center: bool = True) -> Tensor:
        return (_mel(self.options.sample_rate, self.options.bands, center)(sound) + FLOOR).log()

    @property
    def _fft_samples(self) -> int:
        return round(FFT_WINDOWS * round(WINDOW_SECONDS * self.options.sample_rate))

    @property
    def _hop_samples(self) -> int:
        return round(HOP_SECONDS * self.options.sample_rate)


@cache
def _mel(sample_rate: int, num_bands: int, center: bool) -> MelSpectrogram:
    from torchaudio.transforms import MelSpectrogram

    window_samples = round(WINDOW_SECONDS * sample_rate)
    return MelSpectrogram(
        sample_rate,
        n_fft=round(FFT_WINDOWS * window_samples),
        win_length=window_samples,
        hop_length=round(HOP_SECONDS * sample_rate),
        n_mels=num_bands,
        center=center,
        pad_mode="constant",
    )


class LogMel(WeightFreeEncoder):
    """The `logmel` encoder."""

    modality = "audio"

    def __init__(self, spec: Spec) -> None:
        options = spec.read(LogMelOptions)
        dim = options.bands * (2 if options.stat == "mean+std" else 1)
        flat = options.keep == "flat"
        self.spec = spec.canonical(options)
        self.embed_dim = dim * options.steps if flat else dim
        self.max_steps = None if flat else options.steps
        self.preprocessing = {
            **asdict(options),
            "window_seconds": WINDOW_SECONDS,
            "hop_seconds": HOP_SECONDS,
            "floor": FLOOR,
        }
        self.prepare = PrepareLogMel(options)


def build(spec: Spec, name: str) -> LogMel:
    """Build the encoder of a spec."""
    if spec.model is not None:
        raise ValueError(f"logmel must be given without a model, got {str(spec)!r}. Type logmel,bands=64.")
    return LogMel(spec)
