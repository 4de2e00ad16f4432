"""Sound as a picture, for models that look at images."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from torchaudio.transforms import MelSpectrogram

# 25 ms windows every 10 ms; the loudest point is white, 80 dB below it is black, high pitches are at the top.
PICTURE = {
    "sample_rate": 16000,
    "bands": 128,
    "window_samples": 400,
    "fft_samples": 2048,
    "hop_samples": 160,
    "range_db": 80,
}


def mel_picture(sound: Tensor, height: int, width: int) -> Tensor:
    """(samples,) to (height, width): log-mel power in [0, 1], time from left to right; black where all is silent."""
    decibels = 10 * _mel()(sound).clamp(min=1e-10).log10()  # (bands, time)
    picture = (decibels - decibels.max()) / PICTURE["range_db"] + 1
    if not sound.any():
        picture = torch.zeros_like(picture)
    picture = picture.clamp(min=0).flip(0)[None, None]
    return functional.interpolate(picture, (height, width), mode="bilinear", antialias=True)[0, 0]


@cache
def _mel() -> MelSpectrogram:
    from torchaudio.transforms import MelSpectrogram

    return MelSpectrogram(
        PICTURE["sample_rate"],
        n_fft=PICTURE["fft_samples"],
        win_length=PICTURE["window_samples"],
        hop_length=PICTURE["hop_samples"],
        n_mels=PICTURE["bands"],
        pad_mode="constant",
    )
