from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torchaudio import pipelines

from amr.extract.encoders import build_encoder
from amr.extract.encoders.model import ModelEncoder
from amr.extract.encoders.networks import MeanOverRows, num_rows

SOUND = np.random.default_rng(0).normal(size=9000).astype(np.float32) * 0.1
CLIP = np.random.default_rng(0).integers(0, 256, (8, 60, 80, 3), dtype=np.uint8)
PICTURES = "timm:resnet18,size=32,weights=random"
PIECES = "torchvision:r3d_18,frames=4,rate=4,weights=random"
SPEECH = ("WAV2VEC2_BASE", "WAVLM_BASE_PLUS", "HUBERT_LARGE")
TINY = {"encoder_embed_dim": 24, "encoder_num_layers": 3, "encoder_num_heads": 2, "encoder_ff_interm_features": 16}
TINY |= {
    "encoder_pos_conv_groups": 2,
    "extractor_conv_layer_config": [(16, 10, 5), *[(16, 3, 2)] * 4, *[(16, 2, 2)] * 2],
}


@pytest.fixture(autouse=True)
def tiny_bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundles, except for their size."""
    for name in SPEECH:
        monkeypatch.setattr(getattr(pipelines, name), "_params", {**getattr(pipelines, name)._params, **TINY})


def build(spec: str, name: str) -> ModelEncoder:
    encoder = build_encoder(spec, name)
    assert isinstance(encoder, ModelEncoder)
    return encoder


def padded(inputs: list[torch.Tensor]) -> torch.Tensor:
    return nn.utils.rnn.pad_sequence(inputs, batch_first=True, padding_value=torch.nan)


def check_agreement(encoder: ModelEncoder, inputs: list[torch.Tensor]) -> None:
    with torch.no_grad():
        out = encoder.network()(padded(inputs))
    torch.testing.assert_close(out, torch.stack(encoder.embed(inputs)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("spec", "name", "media"),
    [
        (f"{PICTURES},frames=3", "video", [CLIP[:3], CLIP[3:6]]),
        (f"{PICTURES},rate=2", "video", [CLIP[:3], CLIP[3:4]]),
        (f"{PICTURES},frames=2", "audio", [SOUND, SOUND[:5000]]),
        (PIECES, "video", [CLIP[:4], CLIP]),
    ],
)
def test_pictures_and_pieces_agree_with_embed(spec, name, media):
    encoder = build(spec, name)
    check_agreement(encoder, [encoder.prepare(each) for each in media])


@pytest.mark.parametrize("name", SPEECH)
@pytest.mark.parametrize("layer", [1, 3])
def test_sounds_of_several_lengths_agree_with_embed(name, layer):
    encoder = build(f"torchaudio:{name},layer={layer},weights=random", "audio")
    check_agreement(encoder, [encoder.prepare(SOUND[:n]) for n in (9000, 3001, 400, 9000)])
    check_agreement(encoder, [encoder.prepare(SOUND[:3001])])


@pytest.mark.parametrize("name", SPEECH)
def test_silence_at_the_end_of_a_sound_counts(name):
    encoder = build(f"torchaudio:{name},weights=random", "audio")
    sound = np.random.default_rng(1).normal(size=32000).astype(np.float32) * 0.1
    sound[24000:] = 0
    (expected,) = encoder.embed([torch.from_numpy(sound)])
    longer = torch.randn(40000, generator=torch.Generator().manual_seed(0)) * 0.1
    for batch in ([torch.from_numpy(sound)], [torch.from_numpy(sound), longer]):
        with torch.no_grad():
            out = encoder.network()(padded(batch))[0]
        assert torch.linalg.vector_norm(out - expected) < 1e-5 * torch.linalg.vector_norm(expected)
        assert torch.linalg.vector_norm(encoder.embed(batch)[0] - expected) < 1e-5 * torch.linalg.vector_norm(expected)
    (shorter,) = encoder.embed([torch.from_numpy(sound[:24000])])
    assert torch.linalg.vector_norm(shorter - expected) > 1e-2 * torch.linalg.vector_norm(expected)


def test_black_frames_at_the_end_of_a_clip_count():
    encoder = build(f"{PICTURES},rate=2", "video")
    clips = [torch.cat([torch.randn(2, 3, 32, 32), torch.zeros(2, 3, 32, 32)]), torch.randn(6, 3, 32, 32)]
    check_agreement(encoder, clips)
    check_agreement(encoder, clips[:1])


def test_a_silent_sound_and_a_clip_of_padding_are_finite():
    speech = build("torchaudio:WAV2VEC2_BASE,weights=random", "audio").network()
    pictures = build(PICTURES, "video").network()
    assert torch.isfinite(speech(torch.stack([torch.zeros(5000), torch.full((5000,), torch.nan)]))).all()
    assert torch.isfinite(pictures(torch.zeros(1, 2, 3, 32, 32))).all()


@pytest.mark.parametrize(
    ("spec", "name", "shape"),
    [
        (PICTURES, "video", (2, 3, 3, 32, 32)),
        (PIECES, "video", (2, 1, 3, 4, 16, 16)),
        ("torchaudio:WAV2VEC2_BASE,weights=random", "audio", (2, 2000)),
        ("torchaudio:WAVLM_BASE_PLUS,weights=random", "audio", (2, 2000)),
    ],
)
def test_weights_are_the_models_and_all_are_trained(spec, name, shape):
    encoder = build(spec, name)
    assert isinstance(encoder, ModelEncoder)
    network = encoder.network().requires_grad_(True)
    weights = dict(network.named_parameters())
    assert {key: id(each) for key, each in weights.items()} == {
        f"model.{key}": id(each) for key, each in encoder.model.named_parameters()
    }
    assert set(network.state_dict()) == {f"model.{key}" for key in encoder.model.state_dict()}
    clips = torch.randn(shape)
    copies = {key: each.detach().clone().requires_grad_(True) for key, each in weights.items()}
    out = functional_call(network, copies, (clips,))
    torch.testing.assert_close(out, network(clips))
    grads = torch.autograd.grad(out.square().sum(), list(copies.values()), allow_unused=True)
    unused = {key for key, grad in zip(copies, grads, strict=True) if grad is None}
    assert all("transformer.layer_norm" in key for key in unused)  # comes after the last layer


def test_padding_does_not_enter_batch_statistics():
    clips = [torch.randn(n, 3, 8, 8) for n in (1, 4)]
    networks = [MeanOverRows(nn.Sequential(nn.BatchNorm2d(3), nn.Flatten())) for _ in range(2)]
    networks[0](padded(clips))
    networks[1].model(torch.cat(clips))
    for one, other in zip(*(each.state_dict().values() for each in networks), strict=True):
        torch.testing.assert_close(one, other)


def test_rows_of_a_clip_are_those_before_the_padding():
    clips = torch.zeros(2, 4, 2)
    clips[0, 3], clips[1, 1:] = torch.nan, torch.nan
    assert num_rows(clips).tolist() == [3, 1]
    assert num_rows(torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, torch.nan]])).tolist() == [3, 2]


@pytest.mark.parametrize("spec", ["timm:test_vit", "torchvision:mc3_18", "torchaudio:WAV2VEC2_BASE"])
def test_random_weights_have_a_seed(spec):
    default, zero, one = (build_encoder(f"{spec},weights=random{seed}", "x") for seed in ("", ",seed=0", ",seed=1"))
    assert default.weights_sha256 == zero.weights_sha256 != one.weights_sha256
    assert default.spec == zero.spec != one.spec
    assert default.preprocessing == one.preprocessing
    assert "seed" not in one.preprocessing
    with pytest.raises(
        ValueError, match="seed must be at least 0 and used with weights=random, got 1 with weights=pretrained"
    ):
        build_encoder(f"{spec},seed=1", "x")
    with pytest.raises(ValueError, match="got -1 with weights=random"):
        build_encoder(f"{spec},seed=-1,weights=random", "x")


def test_without_weights_there_is_nothing_to_train():
    assert not isinstance(build_encoder("logmel", "audio"), ModelEncoder)
    assert not isinstance(build_encoder("frames", "video"), ModelEncoder)
