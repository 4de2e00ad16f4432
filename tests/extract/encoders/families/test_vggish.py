from __future__ import annotations

import importlib
import pickle
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from amr.extract.cache.reader import Cache
from amr.extract.config import ExtractConfig
from amr.extract.encoders import build_encoder
from amr.extract.encoders.families import vggish as family
from amr.extract.encoders.model import ModelEncoder
from amr.extract.media.spool import Spool
from amr.extract.run import extract_embeddings

from ..conftest import importing, is_there

RATE_HZ = 16000
SOUND = (0.2 * np.random.default_rng(0).normal(size=5 * RATE_HZ)).astype(np.float32)


@pytest.fixture(scope="module")
def package() -> Any:
    """The package, without what it reads and resamples files by."""
    is_there("torchvggish", "pip install --no-deps torchvggish")
    with importing(resampy=types.ModuleType("resampy"), soundfile=types.ModuleType("soundfile")):
        importlib.import_module("torchvggish")
        return types.SimpleNamespace(
            model=importlib.import_module("torchvggish.torchvggish"),
            input=importlib.import_module("torchvggish.vggish_input"),
            mel=importlib.import_module("torchvggish.mel_features"),
        )


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as it is published, with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vggish") / "vggish.pth"
    torch.save(family.VggishModel().state_dict(), path)
    return path


@pytest.fixture(scope="module")
def encoder(weights: Path) -> ModelEncoder:
    built = build_encoder(f"vggish,weights={weights}", "sound")
    assert isinstance(built, ModelEncoder)
    return built


def prepared(sound: np.ndarray) -> torch.Tensor:
    return pickle.loads(pickle.dumps(family.PreparePictures()))(sound)


@pytest.mark.parametrize("num_samples", [15600, 16000, 30959, 30960, 80000])
def test_pictures_are_those_of_the_package(package, num_samples):
    expected = package.input.waveform_to_examples(SOUND[:num_samples], RATE_HZ, return_tensor=False)
    found = prepared(SOUND[:num_samples])
    assert found.shape == (len(expected), 1, 96, 64)
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-4)


def test_bands_are_those_of_the_package(package):
    expected = package.mel.spectrogram_to_mel_matrix(64, 257, RATE_HZ, 125.0, 7500.0)
    np.testing.assert_allclose(family.mel_matrix(), expected, atol=1e-6)


def test_vectors_are_those_of_the_package(package, encoder):
    theirs = package.model._vgg(postprocess=False).eval()
    theirs.load_state_dict(encoder.model.state_dict())  # names and shapes are the same
    pictures = prepared(SOUND)
    with torch.inference_mode():
        torch.testing.assert_close(encoder.embed([pictures])[0], theirs(pictures).mean(0), atol=1e-5, rtol=1e-4)


def test_a_short_sound_is_padded_with_silence():
    short, padded = prepared(SOUND[:3000]), prepared(np.pad(SOUND[:3000], (0, 12600)))
    assert short.shape == (1, 1, 96, 64)
    torch.testing.assert_close(short, padded)


def test_pictures_of_a_long_sound_come_in_parts(monkeypatch):
    whole = prepared(SOUND)
    monkeypatch.setattr(family, "PICTURES_AT_ONCE", 2)
    monkeypatch.setattr("amr.extract.media.spool.MEMORY_BYTES", 1000)
    spool = Spool()
    spool.append(SOUND)
    torch.testing.assert_close(torch.as_tensor(family.PreparePictures()(spool.finish()).numpy()), whole)


def test_attributes_batches_steps_and_the_network(encoder):
    assert (encoder.modality, encoder.embed_dim, encoder.max_steps) == ("audio", 128, None)
    inputs = [prepared(SOUND[:16000]), prepared(SOUND)]
    both = encoder.embed(inputs)
    torch.testing.assert_close(encoder.embed(inputs[:1])[0], both[0], atol=1e-6, rtol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(encoder.network().eval()(inputs[1][None])[0], both[1], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(encoder.forward(inputs[1]).mean(0), both[1], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("vggish:large", "vggish must be given without a model"),
        ("vggish,max_steps=0", "max_steps must be at least 1, got 0"),
        ("vggish,keep=all", "keep must be one of mean, steps, got 'all'"),
    ],
)
def test_wrong_specs(spec, message):
    with pytest.raises(ValueError, match=message):
        build_encoder(spec, "x")


def test_real_clips(encoder, weights, test_data, tmp_path):
    clips = sorted((test_data / "vggsound" / "video").glob("*.mp4"))[:2]
    (tmp_path / "clips.csv").write_text("\n".join(["path,label", *(f"{clip},x" for clip in clips)]))
    spec = f"sound=vggish,keep=steps,max_steps=20,weights={weights}"
    config = ExtractConfig(
        manifest=str(tmp_path / "clips.csv"), encoder=(spec,), out=str(tmp_path / "c.h5"), device="cpu"
    )
    assert extract_embeddings(config).embedded == {"sound": 2}
    with Cache.open(tmp_path / "c.h5") as cache:
        assert cache.num_steps("sound").tolist() == [10, 10]
        assert cache.info("sound").weights_sha256 == encoder.weights_sha256
