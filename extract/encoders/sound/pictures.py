"""Sound as a picture, for image models: time from left to right, high pitches at the top."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from amr.extract.encoders.sound.windows import Columns, is_long, num_windows, pieces
from amr.extract.media.spool import blocks

if TYPE_CHECKING:
    from torchaudio.transforms import MelSpectrogram

LEAST = {"sample_rate": 1000, "window": 16, "hop": 1}


@dataclass(frozen=True)
class Picture(ABC):
    """Conversion of sound to a picture.

    Args:
        sample_rate: Sample rate of the sound, in Hz.
        window: Number of samples in one window.
        hop: Number of samples from one window to the next.
    """

    sample_rate: int
    window: int
    hop: int

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                default = type(self).__dataclass_fields__[name].default
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}. Pass {name}={default}.")

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """All settings that shape the picture, ready for JSON."""

    @abstractmethod
    def frequencies(self, sound: Tensor) -> Tensor:
        """Levels `(frequencies, windows)` of a sound `(samples,)`, low frequencies first; 0 is silence, 1 is loud."""

    @property
    @abstractmethod
    def fft_samples(self) -> int:
        """Length of the transform."""

    @abstractmethod
    def pieces(self, sound: np.ndarray) -> Iterator[Tensor]:
        """Yield the levels of a long sound in pieces, `(frequencies, windows of the piece)`."""

    def draw(self, sound: np.ndarray | Tensor, height: int, width: int) -> Tensor:
        """Picture `(height, width)` of a sound `(samples,)` of any length."""
        samples = np.asarray(sound)
        if is_long(len(samples), self.fft_samples, self.hop):
            columns = Columns(num_windows(len(samples), self.fft_samples, self.hop), width)
            for levels in self.pieces(samples):
                columns.add(levels)
            picture = columns.result()
        else:
            picture = self.frequencies(torch.from_numpy(samples))
        picture = picture.flip(0)[None, None]
        return functional.interpolate(picture, (height, width), mode="bilinear", antialias=True)[0, 0]


@dataclass(frozen=True)
class MelPicture(Picture):
    """Log-mel power in [0, 1]: the loudest point of a sound is 1, 80 dB below it is 0; windows of 25 ms every 10 ms."""

    sample_rate: int = 16000
    window: int = 400
    hop: int = 160
    bands = 128
    range_db = 80

    @property
    def fft_samples(self) -> int:
        """Length of the transform, a power of two, so long that the lowest bands contain one of its frequencies."""
        return 2 ** math.ceil(math.log2(max(self.window, 2048 * self.sample_rate / 16000)))

    @property
    def settings(self) -> dict[str, Any]:
        """All settings that shape the picture."""
        return {
            "sample_rate": self.sample_rate,
            "bands": self.bands,
            "window_samples": self.window,
            "fft_samples": self.fft_samples,
            "hop_samples": self.hop,
            "range_db": self.range_db,
        }

    def frequencies(self, sound: Tensor) -> Tensor:
        """Log-mel power `(bands, windows)` of a sound `(samples,)`."""
        decibels = self._decibels(sound)
        picture = (decibels - decibels.max()) / self.range_db + 1
        if not sound.any():
            picture = torch.zeros_like(picture)
        return picture.clamp(min=0)

    def pieces(self, sound: np.ndarray) -> Iterator[Tensor]:
        """Yield the levels piece by piece. The sound is gone through twice: the loudest point comes first."""
        is_silent = not any(block.any() for block in blocks(sound, 1 << 20))
        loudest = max(self._decibels(each, center=False).max() for each in self._samples(sound))
        for each in self._samples(sound):
            levels = ((self._decibels(each, center=False) - loudest) / self.range_db + 1).clamp(min=0)
            yield torch.zeros_like(levels) if is_silent else levels

    def _samples(self, sound: np.ndarray) -> Iterator[Tensor]:
        return pieces(sound, self.fft_samples, self.hop)

    def _decibels(self, sound: Tensor, *, center: bool = True) -> Tensor:
        return 10 * _mel(self, center)(sound).clamp(min=1e-10).log10()


@dataclass(frozen=True)
class SpectrogramPicture(Picture):
    """log(|STFT| + 1e-7), as used to train audio encoders from scratch (Peng et al. 2022, for CREMA-D).

    Scaled by constants, so that loudness is preserved: digital silence is 0, a full-scale tone is 1.
    """

    sample_rate: int = 22050
    window: int = 512
    hop: int = 353
    floor = 1e-7

    @property
    def fft_samples(self) -> int:
        """Length of the transform: one window."""
        return self.window

    @property
    def settings(self) -> dict[str, Any]:
        """All settings that shape the picture."""
        return {
            "kind": "spectrogram",
            "sample_rate": self.sample_rate,
            "window_samples": self.window,
            "hop_samples": self.hop,
            "floor": self.floor,
        }

    def frequencies(self, sound: Tensor) -> Tensor:
        """Scaled log magnitudes `(window / 2 + 1, windows)` of a sound `(samples,)`."""
        return self._levels(sound)

    def pieces(self, sound: np.ndarray) -> Iterator[Tensor]:
        """Yield the scaled log magnitudes piece by piece."""
        for each in pieces(sound, self.fft_samples, self.hop):
            yield self._levels(each, center=False)

    def _levels(self, sound: Tensor, *, center: bool = True) -> Tensor:
        window = torch.hann_window(self.window)
        magnitudes = torch.stft(
            sound, self.window, self.hop, window=window, center=center, pad_mode="constant", return_complex=True
        ).abs()
        silence, loud = math.log(self.floor), math.log(self.window / 4)  # half of the Hann window's sum
        return ((magnitudes + self.floor).log() - silence) / (loud - silence)


PICTURES: dict[str, type[MelPicture | SpectrogramPicture]] = {"mel": MelPicture, "spectrogram": SpectrogramPicture}


@cache
def _mel(picture: MelPicture, center: bool) -> MelSpectrogram:
    from torchaudio.transforms import MelSpectrogram

    return MelSpectrogram(
        picture.sample_rate,
        n_fft=picture.fft_samples,
        win_length=picture.window,
        hop_length=picture.hop,
        n_mels=picture.bands,
        center=center,
        pad_mode="constant",
    )
