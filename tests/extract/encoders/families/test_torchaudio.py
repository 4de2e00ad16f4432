from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torchaudio import pipelines

from amr.extract.encoders import build_encoder
from amr.extract.encoders.file_tensor import FileTensor
from amr.extract.media import spool
from amr.extract.media.spool import Spool

SOUND = np.random.default_rng(0).normal(size=9000).astype(np.float32) * 0.1
TINY = {"encoder_embed_dim": 24, "encoder_num_layers": 3, "encoder_num_heads": 2, "encoder_ff_interm_features": 16}
TINY |= {
    "encoder_pos_conv_groups": 2,
    "extractor_conv_layer_config": [
        (16, 10, 5),
        (16, 3, 2),
        (16, 3, 2),
        (16, 3, 2),
        (16, 3, 2),
        (16, 2, 2),
        (16, 2, 2),
    ],
}
NAMES = ("WAV2VEC2_BASE", "WAVLM_BASE_PLUS", "HUBERT_LARGE")


@pytest.fixture(autouse=True)
def tiny_bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundles, except for their size."""
    for name in (*NAMES, "WAV2VEC2_ASR_BASE_960H"):
        bundle = getattr(pipelines, name)
        monkeypatch.setattr(bundle, "_params", {**bundle._params, **TINY})


@pytest.mark.parametrize("name", NAMES)
def test_embeddings_are_the_layer_averaged_over_time(name):
    encoder = build_encoder(f"torchaudio:{name},weights=random,layer=2", "audio")
    assert (encoder.modality, encoder.embed_dim, encoder.max_steps) == ("audio", 24, None)
    assert (encoder.prepare.sample_rate_hz, encoder.random_weights) == (16000, True)
    sound = torch.from_numpy(SOUND)
    if name == "HUBERT_LARGE":
        sound = (sound - sound.mean()) / (sound.var(correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(encoder.prepare(SOUND), sound)
    with torch.no_grad():
        expected = encoder.model.extract_features(sound[None])[0][1][0].mean(0)
    torch.testing.assert_close(encoder.embed([encoder.prepare(SOUND)])[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_clips_do_not_depend_on_the_rest_of_the_batch(name):
    encoder = build_encoder(f"torchaudio:{name},weights=random,keep=steps,max_steps=20", "audio")
    inputs = [encoder.prepare(SOUND[:n]) for n in (9000, 3000, 9000, 5000, 100)]
    together = encoder.embed(inputs)
    assert [len(each) for each in together] == [20, 9, 20, 15, 1]
    for each, single in zip(together, inputs, strict=True):
        torch.testing.assert_close(encoder.embed([single])[0], each, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_long_sound_is_heard_in_equal_pieces(name):
    sound = np.random.default_rng(1).normal(size=3 * 16000 + 5001).astype(np.float32)
    whole, steps = (build_encoder(f"torchaudio:{name},weights=random{keep}", "audio") for keep in ("", ",keep=steps"))
    long, long_steps = (
        build_encoder(f"torchaudio:{name},weights=random,piece_seconds=1{keep}", "audio")
        for keep in ("", ",keep=steps,max_steps=9")
    )
    x = whole.prepare(sound)
    with torch.no_grad():
        parts = [long.model.extract_features(part[None])[0][-1][0] for part in x.split(-(-len(x) // 4))]
    expected = torch.cat(parts)  # (steps, dim)
    torch.testing.assert_close(long.embed([x, x[:16000]])[0], expected.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(long.embed([x[:16000]])[0], whole.embed([x[:16000]])[0])
    pooled = torch.nn.functional.adaptive_avg_pool1d(expected.T, 9).T
    torch.testing.assert_close(long_steps.embed([x])[0], pooled, rtol=1e-4, atol=1e-5)
    assert "piece_seconds" not in steps.preprocessing  # older caches keep their fingerprints
    assert long.preprocessing["piece_seconds"] == 1
    with pytest.raises(ValueError, match=r"piece_seconds must be 1 to 3600, got 0. Pass piece_seconds=60."):
        build_encoder(f"torchaudio:{name},weights=random,piece_seconds=0", "audio")


@pytest.mark.parametrize("name", NAMES)
def test_sound_in_a_file_is_prepared_as_in_memory(monkeypatch, name):
    prepare = build_encoder(f"torchaudio:{name},weights=random", "audio").prepare
    collected = Spool()
    with monkeypatch.context() as patch:
        patch.setattr(spool, "MEMORY_BYTES", 0)
        collected.append(SOUND)
        x = prepare(collected.finish())
    assert isinstance(x, FileTensor)
    torch.testing.assert_close(x[:], prepare(SOUND), rtol=0, atol=1e-6)


def test_layers():
    last = build_encoder("torchaudio:WAV2VEC2_BASE,weights=random", "audio")
    third = build_encoder("torchaudio:WAV2VEC2_BASE,weights=random,layer=3", "audio")
    first = build_encoder("torchaudio:WAV2VEC2_BASE,weights=random,layer=1", "audio")
    inputs = [last.prepare(SOUND)]
    torch.testing.assert_close(last.embed(inputs)[0], third.embed(inputs)[0])
    assert not torch.allclose(last.embed(inputs)[0], first.embed(inputs)[0])
    assert set(last.preprocessing) == {"layer", "keep", "max_steps", "sample_rate", "normalise"}  # as in older caches
    assert last.preprocessing["layer"] == 3
    with pytest.raises(ValueError, match=r"layer must be 1 to 3 for WAV2VEC2_BASE, got 4. Pass layer=3."):
        build_encoder("torchaudio:WAV2VEC2_BASE,weights=random,layer=4", "audio")


def test_pretrained_weights_in_the_folder_of_the_library(tmp_path, monkeypatch):
    """The library's own loader and ours give the same result from one file."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    bundle = pipelines.WAV2VEC2_ASR_BASE_960H  # with a head, which is left out
    torch.manual_seed(3)
    from torchaudio.models import wav2vec2_model

    heads = 32  # the file has three letters more than the model, which the library takes out
    state = wav2vec2_model(**{**bundle._params, "aux_num_out": heads}).state_dict()
    place = tmp_path / "hub" / "checkpoints" / bundle._path
    place.parent.mkdir(parents=True)
    torch.save(state, place)
    encoder = build_encoder("torchaudio:WAV2VEC2_ASR_BASE_960H", "audio")
    assert not encoder.random_weights
    library = bundle.get_model()
    with torch.no_grad():
        expected = library.extract_features(torch.from_numpy(SOUND)[None])[0][-1][0].mean(0)
    torch.testing.assert_close(encoder.embed([encoder.prepare(SOUND)])[0], expected, rtol=1e-4, atol=1e-5)
    named = build_encoder(f"torchaudio:WAV2VEC2_ASR_BASE_960H,weights={place}", "audio")
    assert named.weights_sha256 == encoder.weights_sha256


def test_random_weights_are_the_same_every_time():
    first, second = (build_encoder("torchaudio:WAV2VEC2_BASE,weights=random", "audio") for _ in range(2))
    assert first.weights_sha256 == second.weights_sha256 != ""


def test_prepare_can_be_sent_to_a_worker():
    prepare = build_encoder("torchaudio:HUBERT_LARGE,weights=random", "audio").prepare
    torch.testing.assert_close(pickle.loads(pickle.dumps(prepare))(SOUND), prepare(SOUND))


def test_a_misspelled_model():
    with pytest.raises(ValueError, match=r"Did you mean torchaudio:WAV2VEC2_BASE\?"):
        build_encoder("torchaudio:WAV2VEC2_BAES", "audio")
