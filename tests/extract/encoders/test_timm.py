from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from amr.extract.encoders import build_encoder
from amr.extract.encoders.picture import mel_picture
from amr.extract.encoders.weights import find_weights
from amr.extract.sampling import FrameSampling

MODELS = ("test_vit", "test_resnet", "test_efficientnet", "mobilenetv3_small_050")
CLIP = np.random.default_rng(0).integers(0, 256, (8, 60, 80, 3), dtype=np.uint8)
SOUND = np.random.default_rng(0).normal(size=20000).astype(np.float32) * 0.1


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Weights of a small model with its classifier, as timm publishes them."""
    torch.manual_seed(5)
    path = tmp_path / "model.safetensors"
    save_file(timm.create_model("test_vit").state_dict(), path)
    return path


@pytest.mark.parametrize("name", MODELS)
def test_embeddings_are_the_model_on_each_frame_averaged(name):
    encoder = build_encoder(f"timm:{name},weights=random,frames=4", "video")
    assert (encoder.modality, encoder.max_steps, encoder.random_weights) == ("video", None, True)
    assert encoder.prepare.sampling == FrameSampling(num_frames=4)
    config = timm.data.resolve_model_data_config(encoder.model)
    transform = timm.data.create_transform(**config, is_training=False)
    pictures = torch.stack([transform(Image.fromarray(frame)) for frame in CLIP[:4]])
    torch.testing.assert_close(encoder.prepare(CLIP[:4]), pictures, rtol=0, atol=0)
    (embedding,) = encoder.embed([pictures])
    assert embedding.shape == (encoder.embed_dim,)
    with torch.no_grad():
        torch.testing.assert_close(embedding, encoder.model(pictures).mean(0), rtol=1e-4, atol=1e-5)


def test_clips_do_not_depend_on_their_neighbours():
    encoder = build_encoder("timm:test_vit,weights=random,rate=2,keep=steps,max_steps=5", "video")
    inputs = [encoder.prepare(CLIP[:n]) for n in (1, 8, 3)]
    together = encoder.embed(inputs)
    assert [tuple(each.shape) for each in together] == [(1, 64), (5, 64), (3, 64)]
    for each, alone in zip(together, inputs, strict=True):
        torch.testing.assert_close(encoder.embed([alone])[0], each, rtol=1e-4, atol=1e-5)


def test_sound_as_pictures():
    encoder = build_encoder("timm:test_vit,weights=random,frames=3,keep=steps", "audio")
    assert encoder.modality == "audio"
    assert encoder.spec == "timm:test_vit,modality=audio,frames=3,keep=steps,weights=random"
    assert encoder.prepare.sample_rate_hz == 16000
    pictures = encoder.prepare(SOUND)
    assert pictures.shape == (3, 3, 160, 160)
    mean, std = (torch.tensor(encoder.preprocessing["images"][key])[:, None, None] for key in ("mean", "std"))
    third = mel_picture(torch.from_numpy(SOUND[:6667]), 160, 160)
    torch.testing.assert_close(pictures[0] * std + mean, third.expand(3, -1, -1), atol=1e-5, rtol=0)
    assert encoder.embed([pictures])[0].shape == (3, 64)
    for samples in (1, 2, 100):
        assert torch.isfinite(encoder.prepare(SOUND[:samples])).all()


def test_the_name_of_the_embedding_chooses_the_modality_unless_the_spec_does():
    for name, option, modality in (
        ("audio", "", "audio"),
        ("video", "", "video"),
        ("face", "", "video"),
        ("audio", ",modality=video", "video"),
        ("x", ",modality=audio", "audio"),
    ):
        encoder = build_encoder(f"timm:test_vit,weights=random{option}", name)
        assert encoder.modality == modality
        assert build_encoder(encoder.spec, "other").modality == modality


def test_a_picture_of_sound():
    seconds = np.arange(16000) / 16000
    low, high = (torch.from_numpy(np.sin(2 * np.pi * hz * seconds)).float() for hz in (200, 4000))
    picture = mel_picture(torch.cat([low, high]), 64, 64)
    assert (picture >= 0).all()
    assert (picture <= 1).all()
    rows = picture.argmax(0)
    assert rows[:28].min() > rows[36:].max()  # high pitches are at the top
    torch.testing.assert_close(mel_picture(low, 64, 64), mel_picture(low / 8, 64, 64), atol=1e-4, rtol=0)
    assert (mel_picture(torch.zeros(16000), 64, 64) == 0).all()


def test_another_input_size():
    for name in ("test_vit", "test_resnet"):
        encoder = build_encoder(f"timm:{name},weights=random,size=96", "video")
        assert encoder.prepare(CLIP).shape == (8, 3, 96, 96)
        assert encoder.embed([encoder.prepare(CLIP)])[0].shape == (encoder.embed_dim,)


def test_random_weights_are_the_same_every_time():
    first, second = (build_encoder("timm:test_vit,weights=random", "video") for _ in range(2))
    assert first.weights_sha256 == second.weights_sha256 != ""


def test_weights_from_a_file(file):
    encoder = build_encoder(f"timm:test_vit,weights={file}", "video")
    expected = timm.create_model("test_vit", num_classes=0, checkpoint_path=None).eval()
    expected.load_state_dict({name: tensor for name, tensor in _state(file).items() if not name.startswith("head.")})
    assert not encoder.random_weights
    inputs = encoder.prepare(CLIP)
    with torch.no_grad():
        torch.testing.assert_close(encoder.embed([inputs])[0], expected(inputs).mean(0), rtol=1e-4, atol=1e-5)
    torch.save(_state(file), file.with_suffix(".pt"))
    again = build_encoder(f"timm:test_vit,weights={file.with_suffix('.pt')}", "video")
    assert again.weights_sha256 == encoder.weights_sha256


def test_pretrained_weights_where_they_are_put(file, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    place = tmp_path / "torch" / "hub" / "checkpoints" / "timm--test_vit.r160_in1k.safetensors"
    place.parent.mkdir(parents=True)
    file.rename(place)
    encoder = build_encoder("timm:test_vit", "video")
    assert (encoder.spec, encoder.random_weights) == ("timm:test_vit", False)
    assert encoder.weights_sha256 == build_encoder(f"timm:test_vit,weights={place}", "video").weights_sha256


def test_a_file_that_lacks_weights_is_refused(file):
    state = _state(file)
    lacking = {name: tensor for name, tensor in state.items() if name != "blocks.1.mlp.fc1.weight"}
    save_file(lacking, file)
    with pytest.raises(ValueError, match=r"weights must hold .* such as blocks\.1\.mlp\.fc1\.weight"):
        build_encoder(f"timm:test_vit,weights={file}", "video")
    save_file({**state, "norm.weight": torch.zeros(3)}, file)
    with pytest.raises(ValueError, match="weights must hold the model's tensors"):
        build_encoder(f"timm:test_vit,weights={file}", "video")
    with pytest.raises(ValueError, match="weights must hold the model's tensors"):
        build_encoder(f"timm:test_resnet,weights={file}", "video")


def test_where_published_weights_are_is_known(monkeypatch):
    asked = {}

    def remember(option, source, model):
        asked[model] = source
        raise FileNotFoundError

    monkeypatch.setattr("amr.extract.encoders.timm.find_weights", remember)
    for name in ("resnet18", "vit_small_patch14_dinov2.lvd142m", "vit_base_patch16_clip_224.openai"):
        with pytest.raises(FileNotFoundError):
            build_encoder(f"timm:{name}", "video")
    assert asked["timm:resnet18"].url.endswith("/timm/resnet18.a1_in1k/resolve/main/model.safetensors")
    assert asked["timm:resnet18"].place.name == "timm--resnet18.a1_in1k.safetensors"
    assert all(source.repo for source in asked.values())
    assert find_weights is not remember


def test_prepare_can_be_sent_to_a_worker():
    for name, media in (("video", CLIP), ("audio", SOUND)):
        prepare = build_encoder("timm:test_vit,weights=random", name).prepare
        torch.testing.assert_close(pickle.loads(pickle.dumps(prepare))(media), prepare(media))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("timm:resnt18", r"Did you mean timm:resnet18\?"),
        ("timm", "timm must be given a model it has, got None"),
        ("timm:test_vit,frames=2,rate=3", "frames must be left out with rate"),
        ("timm:test_vit,frames=0", "frames must be at least 1, got 0"),
        ("timm:test_vit,weigths=random", "Did you mean weights"),
    ],
)
def test_wrong_specs(spec, message):
    with pytest.raises(ValueError, match=message):
        build_encoder(spec, "video")


def _state(path: Path) -> dict[str, torch.Tensor]:
    from amr.extract.encoders.weights import load_state

    return load_state(path)
