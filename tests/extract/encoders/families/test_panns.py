from __future__ import annotations

import importlib
import pickle
import types
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import get_window

from amr.extract.cache.reader import Cache
from amr.extract.config import ExtractConfig
from amr.extract.encoders import build_encoder
from amr.extract.encoders.families import panns as family
from amr.extract.encoders.model import ModelEncoder
from amr.extract.encoders.registry import PANNS_MODELS
from amr.extract.run import extract_embeddings

from ..conftest import importing, is_there, slaney_filters

RATE_HZ = 32000
SOUND = (0.2 * np.random.default_rng(0).normal(size=3 * RATE_HZ)).astype(np.float32)


@pytest.fixture(scope="module")
def theirs() -> Any:
    """The package's network with random weights; its settings, which import downloads, are left out."""
    is_there("panns_inference", "pip install --no-deps panns-inference torchlibrosa")
    filters = types.SimpleNamespace(mel=slaney_filters, get_window=get_window)
    librosa = types.SimpleNamespace(filters=filters, util=types.SimpleNamespace(pad_center=lambda x, size: x))
    config = types.SimpleNamespace(labels=[], classes_num=527)
    with importing(librosa=librosa, panns_inference__config=config):
        models = importlib.import_module("panns_inference.models")
        torch.manual_seed(0)
        model = models.Cnn14(RATE_HZ, 1024, 320, 64, 50, 14000, 527).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return model


@pytest.fixture(scope="module")
def weights(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as it is published: the classifier and the spectrogram are in it, too."""
    path = tmp_path_factory.mktemp("panns") / "Cnn14.pth"
    torch.save({"iteration": 1, "model": theirs.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def encoder(weights: Path) -> ModelEncoder:
    built = build_encoder(f"panns:cnn14,weights={weights}", "sound")
    assert isinstance(built, ModelEncoder)
    return built


def test_vectors_are_those_of_the_package(theirs, encoder):
    prepare = pickle.loads(pickle.dumps(encoder.prepare))
    sounds = [SOUND, SOUND[:20000]]
    found = encoder.embed([prepare(sound) for sound in sounds])
    with torch.inference_mode():
        for sound, vector in zip(sounds, found, strict=True):
            expected = theirs(torch.from_numpy(sound)[None])["embedding"][0]
            torch.testing.assert_close(vector, expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-3)


def test_the_spectrogram_is_that_of_the_package(theirs, encoder):
    with torch.inference_mode():
        expected = theirs.logmel_extractor(theirs.spectrogram_extractor(torch.from_numpy(SOUND)[None]))
    torch.testing.assert_close(encoder.prepare(SOUND), expected, atol=2e-3, rtol=0)


def test_long_sound_goes_through_in_pieces(encoder, weights):
    split = build_encoder(f"panns:Cnn14,piece_seconds=1,weights={weights},keep=steps", "sound")
    sound = SOUND[: 2 * RATE_HZ + 9]
    (steps,) = split.embed([split.prepare(sound)])
    assert steps.shape == (3, 2048)
    for (start, length), step in zip(family.pieces(len(sound), RATE_HZ), steps, strict=True):
        (alone,) = encoder.embed([encoder.prepare(sound[start : start + length])])
        torch.testing.assert_close(step, alone, atol=1e-5, rtol=1e-4)


@given(st.integers(1, 10_000), st.integers(1, 1000))
def test_pieces_cover_the_sound_and_are_of_one_length(num_samples, most_samples):
    found = family.pieces(num_samples, most_samples)
    assert len({length for _, length in found}) == 1
    assert found[0][1] <= most_samples
    assert found[0][0] == 0
    assert sum(found[-1]) == num_samples
    assert all(b <= a + length for (a, length), (b, _) in pairwise(found))


def test_attributes_short_sounds_and_the_network(encoder):
    assert set(PANNS_MODELS) == set(family.FRONT_ENDS)
    assert (encoder.modality, encoder.embed_dim, encoder.max_steps) == ("audio", 2048, None)
    assert encoder.preprocessing["sample_rate"] == encoder.prepare.sample_rate_hz == RATE_HZ
    short = encoder.prepare(SOUND[:10])
    assert short.shape == (1, 1, family.MIN_WINDOWS, 64)
    with torch.inference_mode():
        torch.testing.assert_close(encoder.network().eval()(short[None])[0], encoder.embed([short])[0])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("panns:Cnn15", r"Did you mean panns:Cnn14\?"),
        ("panns:Cnn14,piece_seconds=0", "piece_seconds must be 1 to 600, got 0"),
        ("panns:Cnn14,max_steps=0", "max_steps must be at least 1, got 0"),
    ],
)
def test_wrong_specs(spec, message):
    with pytest.raises(ValueError, match=message):
        build_encoder(spec, "x")


def test_real_clips(encoder, weights, test_data, tmp_path):
    clips = sorted((test_data / "vggsound" / "video").glob("*.mp4"))[:2]
    (tmp_path / "clips.csv").write_text("\n".join(["path,label", *(f"{clip},x" for clip in clips)]))
    config = ExtractConfig(
        manifest=str(tmp_path / "clips.csv"),
        encoder=(f"sound=panns:Cnn14,weights={weights}",),
        out=str(tmp_path / "c.h5"),
        device="cpu",
    )
    assert extract_embeddings(config).embedded == {"sound": 2}
    with Cache.open(tmp_path / "c.h5") as cache:
        assert cache.info("sound").weights_sha256 == encoder.weights_sha256
        assert cache.embedding("sound").any(axis=1).all()
