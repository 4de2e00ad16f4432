from __future__ import annotations

import pickle
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from amr.extract.cache.reader import Cache
from amr.extract.config import ExtractConfig
from amr.extract.encoders import build_encoder
from amr.extract.encoders.families.weightless import opensmile as family
from amr.extract.encoders.registry import OPENSMILE_SETS
from amr.extract.media.decode import decode
from amr.extract.media.spool import TooLarge
from amr.extract.run import extract_embeddings

from ...conftest import needs

RATE_HZ = 16000
NOISE = (0.1 * np.random.default_rng(0).normal(size=RATE_HZ)).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def package() -> Any:
    return needs("opensmile", "opensmile")


def embed(spec: str, sound: np.ndarray = NOISE) -> torch.Tensor:
    encoder = build_encoder(spec, "voice")
    (embedding,) = encoder.embed([pickle.loads(pickle.dumps(encoder.prepare))(sound)])
    assert (embedding.dtype, embedding.shape[-1]) == (torch.float32, encoder.embed_dim)
    return embedding


@pytest.mark.parametrize("name", OPENSMILE_SETS)
def test_functionals_are_those_of_the_package(name, package):
    smile = package.Smile(getattr(package.FeatureSet, name), package.FeatureLevel.Functionals)
    np.testing.assert_array_equal(embed(f"opensmile:{name}"), smile.process_signal(NOISE, RATE_HZ).to_numpy()[0])
    assert smile.num_features == OPENSMILE_SETS[name]


def test_descriptors_are_those_of_the_package(package):
    smile = package.Smile(package.FeatureSet.eGeMAPSv02, package.FeatureLevel.LowLevelDescriptors)
    expected = torch.from_numpy(smile.process_signal(NOISE, RATE_HZ).to_numpy())
    steps = embed("opensmile:eGeMAPSv02,level=lld,keep=steps,max_steps=1000")
    torch.testing.assert_close(steps, expected, rtol=0, atol=0)
    torch.testing.assert_close(embed("opensmile:eGeMAPSv02,level=lld"), expected.mean(0))
    few = embed("opensmile:eGeMAPSv02,level=lld,keep=steps,max_steps=5")
    torch.testing.assert_close(few, functional.adaptive_avg_pool1d(expected.T, 5).T)


def test_attributes():
    encoder = build_encoder("opensmile:egemapsv02,level=lld,keep=steps", "a")
    assert (encoder.modality, encoder.embed_dim, encoder.max_steps) == ("audio", 25, 64)
    assert encoder.spec == "opensmile:eGeMAPSv02,level=lld,keep=steps"
    assert encoder.preprocessing["feature_set"] == "eGeMAPSv02"
    assert encoder.prepare.sample_rate_hz == RATE_HZ


@pytest.mark.parametrize("num_samples", [1, 100, 800])
def test_sound_that_is_too_short_is_said_so(num_samples):
    with pytest.raises(ValueError, match="openSMILE needs more sound than 0"):
        embed("opensmile:eGeMAPSv02", NOISE[:num_samples])


def test_silence_has_features():
    assert torch.isfinite(embed("opensmile:eGeMAPSv02", np.zeros(RATE_HZ, np.float32))).all()


def test_a_feature_without_a_number_is_named(monkeypatch):
    smile = family.extractor("eGeMAPSv02", "functionals")
    frame = smile.process_signal(NOISE, RATE_HZ)
    frame.iloc[0, 3] = np.nan
    monkeypatch.setattr(smile, "process_signal", lambda *_: frame)
    with pytest.raises(ValueError, match=f"openSMILE gives no number for {frame.columns[3]} of this sound"):
        embed("opensmile:eGeMAPSv02")


def test_sound_that_is_too_long_is_refused(monkeypatch):
    monkeypatch.setattr(family, "MAX_SECONDS", 0.5)
    with pytest.raises(TooLarge, match=r"at most 0.5 s long for openSMILE, got 1 s. Cut the clip"):
        embed("opensmile:eGeMAPSv02")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("opensmile", "opensmile must name one of its models, got none"),
        ("opensmile:eGeMAPSv2", r"Did you mean opensmile:eGeMAPSv02\?"),
        ("opensmile:eGeMAPSv02,keep=steps", "keep=steps must be used with level=lld"),
        ("opensmile:eGeMAPSv02,sample_rate=5", "sample_rate must be at least 8000, got 5"),
        ("opensmile:eGeMAPSv02,level=mean", "level must be one of functionals, lld, got 'mean'"),
    ],
)
def test_wrong_specs(spec, message):
    with pytest.raises(ValueError, match=message):
        build_encoder(spec, "a")


def test_the_error_without_the_package_says_what_to_install(monkeypatch):
    family.extractor.cache_clear()
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(
        ValueError, match=r"must have the package opensmile, got .*pip install 'amr-fusion\[opensmile\]'"
    ):
        build_encoder("opensmile:eGeMAPSv02", "a")


def test_real_voices_in_worker_processes(test_data, tmp_path, package):
    """The package is in use here before workers are forked: they must not hang, and give the same."""
    files = sorted((test_data / "cremad" / "AudioWAV").glob("*.wav"))[:4]
    (tmp_path / "clips.csv").write_text("\n".join(["path,label", *(f"{file},x" for file in files)]))
    smile = package.Smile(package.FeatureSet.eGeMAPSv02, package.FeatureLevel.Functionals)
    expected = []
    for file in files:
        sound = decode(file, sample_rates_hz=[RATE_HZ]).sound[RATE_HZ]
        expected.append(smile.process_signal(sound, RATE_HZ).to_numpy()[0])
    config = ExtractConfig(
        manifest=str(tmp_path / "clips.csv"),
        encoder=("voice=opensmile:eGeMAPSv02",),
        out=str(tmp_path / "c.h5"),
        device="cpu",
        workers=2,
    )
    assert extract_embeddings(config).embedded == {"voice": 4}
    with Cache.open(tmp_path / "c.h5") as cache:
        np.testing.assert_array_equal(cache.embedding("voice"), expected)
