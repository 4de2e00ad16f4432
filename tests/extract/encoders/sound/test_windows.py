"""In pieces and whole: the same spectra, means and pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from amr.extract.encoders import build_encoder
from amr.extract.encoders.sound import windows
from amr.extract.encoders.sound.pictures import MelPicture, SpectrogramPicture
from amr.extract.encoders.sound.windows import Columns, PartMeans, num_windows, pieces

GENERATOR = np.random.default_rng(0)
SOUND = (0.1 * GENERATOR.normal(size=50_000)).astype(np.float32)


@pytest.fixture
def in_pieces(monkeypatch):
    monkeypatch.setattr(windows, "MAX_POINTS", 0)
    monkeypatch.setattr(windows, "PIECE_POINTS", 20_000)


@pytest.mark.parametrize(("fft", "hop"), [(512, 160), (1023, 441), (64, 100), (400, 1)])
@pytest.mark.parametrize("length", [1, 63, 5000])
def test_pieces_have_the_windows_of_the_whole(in_pieces, fft, hop, length):
    settings = {"window": torch.hann_window(fft), "return_complex": True}
    whole = torch.stft(torch.from_numpy(SOUND[:length]), fft, hop, pad_mode="constant", **settings)
    parts = [torch.stft(p, fft, hop, center=False, **settings) for p in pieces(SOUND[:length], fft, hop)]
    assert whole.shape[1] == num_windows(length, fft, hop)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("rows", "parts"), [(100, 10), (7, 3), (3, 7), (1, 1), (97, 96)])
def test_means_over_parts(rows, parts):
    values = torch.from_numpy(GENERATOR.normal(size=(rows, 4)))
    means = PartMeans(rows, parts)
    for piece in values.split(5):
        means.add(piece)
    torch.testing.assert_close(means.means(), functional.adaptive_avg_pool1d(values.T, parts).T)


@pytest.mark.parametrize(("num", "width"), [(1000, 224), (224, 224), (50, 224), (999, 1), (3, 2)])
def test_columns(num, width):
    values = torch.from_numpy(GENERATOR.normal(size=(6, num)))
    columns = Columns(num, width)
    for piece in values.split(37, dim=1):
        columns.add(piece)
    expected = functional.interpolate(values[None, None], (6, width), mode="bilinear", antialias=True)[0, 0]
    torch.testing.assert_close(columns.result().double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("picture", [MelPicture(), SpectrogramPicture(), MelPicture(8000, 300, 70)])
@pytest.mark.parametrize("gain", [1.0, 0.0])
def test_pictures(request, picture, gain):
    whole = picture.draw(gain * SOUND, 64, 48)
    request.getfixturevalue("in_pieces")
    torch.testing.assert_close(picture.draw(gain * SOUND, 64, 48), whole, rtol=0, atol=2e-5)


@pytest.mark.parametrize("spec", ["logmel", "logmel,steps=3,stat=mean,sample_rate=22050,keep=steps"])
def test_logmel(request, spec):
    prepare = build_encoder(spec, "audio").prepare
    whole = prepare(SOUND)
    request.getfixturevalue("in_pieces")
    torch.testing.assert_close(prepare(SOUND), whole, rtol=0, atol=2e-4)  # the whole is summed in float32
