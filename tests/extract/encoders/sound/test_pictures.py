from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from amr.extract.encoders.sound.pictures import MelPicture, SpectrogramPicture


def tone(hz: float, rate: int, seconds: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).float()


@pytest.mark.parametrize("picture", [MelPicture(), SpectrogramPicture(), MelPicture(8000, 300, 70)])
def test_high_pitches_are_at_the_top(picture):
    low, high = (tone(hz, picture.sample_rate) for hz in (200, 3000))
    drawn = picture.draw(torch.cat([low, high]), 64, 64)
    rows = drawn.argmax(0)
    assert drawn.shape == (64, 64)
    assert rows[:28].min() > rows[36:].max()


@pytest.mark.parametrize("picture", [MelPicture(), SpectrogramPicture()])
@pytest.mark.parametrize("samples", [1, 100, 5000])
def test_silence_is_black(picture, samples):
    assert picture.draw(torch.zeros(samples), 32, 32).abs().max() < 1e-6


def test_a_mel_picture_does_not_depend_on_loudness():
    low = tone(200, 16000)
    drawn = MelPicture().draw(low, 64, 64)
    assert (drawn >= 0).all()
    assert (drawn <= 1).all()
    torch.testing.assert_close(drawn, MelPicture().draw(low / 8, 64, 64), atol=1e-4, rtol=0)


def test_a_spectrogram_depends_on_loudness():
    picture = SpectrogramPicture()
    line = 32 * picture.sample_rate / picture.window  # one of the transform's frequencies
    loud, soft = (picture.frequencies(tone(line, picture.sample_rate) * gain)[32, 5:-5] for gain in (1, 0.1))
    torch.testing.assert_close(loud, torch.ones_like(loud), atol=1e-4, rtol=0)
    a_tenth = math.log(10) / (math.log(picture.window / 4) - math.log(picture.floor))
    torch.testing.assert_close(loud - soft, torch.full_like(loud, a_tenth), atol=1e-4, rtol=0)


def test_a_spectrogram_is_the_fields_log_of_magnitudes():
    picture = SpectrogramPicture()
    sound = torch.randn(3 * 22050, generator=torch.Generator().manual_seed(0)) * 0.1
    frequencies = picture.frequencies(sound)
    assert frequencies.shape == (257, 188)  # as published for clips of three seconds
    padded = np.pad(sound.numpy(), 256)
    for at in (0, 90, 187):
        window = padded[at * 353 : at * 353 + 512] * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512))
        expected = np.log(np.abs(np.fft.rfft(window)) + 1e-7)
        scaled = (expected - math.log(1e-7)) / (math.log(128) - math.log(1e-7))
        np.testing.assert_allclose(frequencies[:, at], scaled, atol=1e-4)
    torch.testing.assert_close(picture.draw(sound, 257, 188), frequencies.flip(0))


@pytest.mark.parametrize(("name", "value"), [("sample_rate", 10), ("window", 2), ("hop", 0)])
def test_wrong_options(name, value):
    for kind in (MelPicture, SpectrogramPicture):
        with pytest.raises(ValueError, match=f"{name} must be at least"):
            kind(**{name: value})
