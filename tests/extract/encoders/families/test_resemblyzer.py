"""The one learned encoder whose real weights come with a package."""

from __future__ import annotations

import importlib
import math
import pickle
import types
from typing import Any

import numpy as np
import pytest
import torch

from amr.extract.cache.reader import Cache
from amr.extract.config import ExtractConfig
from amr.extract.encoders import build_encoder
from amr.extract.encoders.families import resemblyzer as family
from amr.extract.encoders.families.trained import save_trained
from amr.extract.encoders.model import ModelEncoder
from amr.extract.media.spool import Spool
from amr.extract.run import extract_embeddings

from ..conftest import importing, is_there, slaney_filters

RATE_HZ = 16000
RNG = np.random.default_rng(0)
VOICE = (np.sin(np.cumsum(RNG.normal(0.1, 0.05, 5 * RATE_HZ))) * 0.3).astype(np.float32)


@pytest.fixture(scope="module")
def encoder() -> ModelEncoder:
    is_there("resemblyzer", "pip install --no-deps Resemblyzer")
    built = build_encoder("resemblyzer", "voice")
    assert isinstance(built, ModelEncoder)
    return built


def mel_power(y: np.ndarray, sr: int, n_fft: int, hop_length: int, n_mels: int) -> np.ndarray:
    """`librosa.feature.melspectrogram` by its definition."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(y.astype(float), n_fft // 2), n_fft)[::hop_length]
    power = np.abs(np.fft.rfft(windows * np.hanning(n_fft + 1)[:-1])) ** 2
    return slaney_filters(sr, n_fft, n_mels) @ power.T


@pytest.fixture(scope="module")
def package() -> Any:
    """The package's own code, without its detector of silences, which is not part of the encoder."""
    is_there("resemblyzer", "pip install --no-deps Resemblyzer")
    librosa = types.SimpleNamespace(feature=types.SimpleNamespace(melspectrogram=mel_power))
    with importing(librosa=librosa, webrtcvad=types.ModuleType("webrtcvad")):
        return importlib.import_module("resemblyzer")


def embed(encoder: ModelEncoder, *sounds: np.ndarray) -> list[torch.Tensor]:
    prepare = pickle.loads(pickle.dumps(encoder.prepare))
    return encoder.embed([prepare(sound) for sound in sounds])


@pytest.mark.parametrize("seconds", [0.3, 1.0, 1.6, 1.61, 2.5, 5.0])
@pytest.mark.parametrize("volume", [1.0, 0.01])
@pytest.mark.filterwarnings("ignore")
def test_embeddings_are_those_of_the_package(encoder, package, seconds, volume):
    sound = volume * VOICE[: round(seconds * RATE_HZ)]
    voice = package.VoiceEncoder("cpu", verbose=False)
    normalized = package.audio.normalize_volume(sound, package.hparams.audio_norm_target_dBFS, increase_only=True)
    expected = voice.embed_utterance(normalized.astype(np.float32))
    np.testing.assert_allclose(embed(encoder, sound)[0], expected, atol=2e-5)


@pytest.mark.parametrize("num_samples", [1, 159, 160, 25600, 25601, 37920, 40000, 99999])
def test_parts_are_those_of_the_package(package, num_samples):
    _, slices = package.VoiceEncoder.compute_partial_slices(num_samples, 1.3, 0.75)
    assert family.part_starts(num_samples) == [each.start for each in slices]


def test_attributes(encoder):
    assert (encoder.modality, encoder.embed_dim, encoder.max_steps) == ("audio", 256, None)
    assert (encoder.spec, encoder.random_weights) == ("resemblyzer", False)
    assert len(encoder.weights_sha256) == 64


def test_batch_mates_have_no_influence_and_the_network_agrees(encoder):
    short, whole = embed(encoder, VOICE[:30000], VOICE)
    torch.testing.assert_close(embed(encoder, VOICE[:30000])[0], short, atol=1e-6, rtol=0)
    inputs = [encoder.prepare(VOICE[:30000]), encoder.prepare(VOICE)]
    padded = torch.nn.utils.rnn.pad_sequence(inputs, batch_first=True, padding_value=math.nan)
    with torch.inference_mode():
        torch.testing.assert_close(encoder.network().eval()(padded), torch.stack([short, whole]), atol=1e-5, rtol=0)


def test_steps_are_the_parts(encoder):
    steps = build_encoder("resemblyzer,keep=steps,max_steps=4", "voice")
    (found,) = steps.embed([steps.prepare(VOICE)])
    assert found.shape == (4, 256)
    all_steps = build_encoder("resemblyzer,keep=steps", "voice")
    (vectors,) = all_steps.embed([all_steps.prepare(VOICE)])
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))
    torch.testing.assert_close(torch.nn.functional.normalize(vectors.mean(0), dim=0), embed(encoder, VOICE)[0])


def test_silence_has_an_embedding(encoder):
    assert torch.isfinite(embed(encoder, np.zeros(20000, np.float32))[0]).all()


def test_sound_in_a_file_gives_the_same(encoder, monkeypatch):
    monkeypatch.setattr("amr.extract.media.spool.MEMORY_BYTES", 1000)
    monkeypatch.setattr("amr.extract.encoders.families.resemblyzer.BLOCK_SAMPLES", 7000)
    spool = Spool()
    spool.append(VOICE)
    in_file = encoder.prepare(spool.finish())
    monkeypatch.undo()
    torch.testing.assert_close(torch.as_tensor(in_file.numpy()), encoder.prepare(VOICE), atol=1e-7, rtol=1e-5)


def test_it_can_be_trained_on_and_saved(encoder, tmp_path):
    save_trained(tmp_path, encoder, encoder.spec)
    again = build_encoder(f"trained:{tmp_path}", "audio")
    torch.testing.assert_close(embed(again, VOICE)[0], embed(encoder, VOICE)[0])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("resemblyzer:small", "resemblyzer must be given without a model"),
        ("resemblyzer,max_steps=0", "max_steps must be at least 1, got 0"),
        ("resemblyzer,seed=3", "seed must be at least 0 and used with weights=random"),
        ("resemblyzer,rate=2", "resemblyzer option must be one of keep, max_steps, weights, seed, got 'rate'"),
    ],
)
def test_wrong_specs(spec, message):
    with pytest.raises(ValueError, match=message):
        build_encoder(spec, "voice")


def test_the_error_without_the_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(family, "find_spec", lambda _: None)
    with pytest.raises(FileNotFoundError, match="pip install --no-deps Resemblyzer, or pass weights=FILE"):
        build_encoder("resemblyzer", "voice")
    assert build_encoder("resemblyzer,weights=random", "voice").random_weights


def test_voices_of_real_people_are_told_apart(encoder, test_data, tmp_path):
    """Talker s1 of GRID and actors of CREMA-D: a voice is nearer to itself than to any other."""
    grid = sorted((test_data / "grid" / "clips").glob("*.mp4"))[:4]
    crema = sorted((test_data / "cremad" / "AudioWAV").glob("*.wav"))
    (tmp_path / "clips.csv").write_text("\n".join(["path,label", *(f"{file},x" for file in [*grid, *crema])]))
    config = ExtractConfig(
        manifest=str(tmp_path / "clips.csv"), encoder=("voice=resemblyzer",), out=str(tmp_path / "c.h5"), device="cpu"
    )
    assert extract_embeddings(config).embedded == {"voice": len(grid) + len(crema)}
    with Cache.open(tmp_path / "c.h5") as cache:
        voices = cache.embedding("voice")
        assert cache.info("voice").weights_sha256 == encoder.weights_sha256
    speakers = np.array(["s1"] * len(grid) + [file.stem.split("_")[0] for file in crema])
    alike = voices @ voices.T - 2 * np.eye(len(voices))
    with_mates = [i for i in range(len(voices)) if (speakers == speakers[i]).sum() > 1]
    assert len(with_mates) > len(grid)
    assert all(speakers[alike[i].argmax()] == speakers[i] for i in with_mates)
