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
from amr.extract.encoders.sound.pictures import MelPicture, SpectrogramPicture
from amr.extract.encoders.weights import find_weights
from amr.extract.media.sampling import FrameSampling

MODELS = ("test_vit", "test_resnet", "test_efficientnet", "mobilenetv3_small_050")
CLIP = np.random.default_rng(0).integers(0, 256, (8, 60, 80, 3), dtype=np.uint8)
SOUND = np.random.default_rng(0).normal(size=20000).astype(np.float32) * 0.1


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Weights of a small model and its classifier, as timm publishes them."""
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


def test_clips_do_not_depend_on_the_rest_of_the_batch():
    encoder = build_encoder("timm:test_vit,weights=random,rate=2,keep=steps,max_steps=5", "video")
    inputs = [encoder.prepare(CLIP[:n]) for n in (1, 8, 3)]
    together = encoder.embed(inputs)
    assert [tuple(each.shape) for each in together] == [(1, 64), (5, 64), (3, 64)]
    for each, single in zip(together, inputs, strict=True):
        torch.testing.assert_close(encoder.embed([single])[0], each, rtol=1e-4, atol=1e-5)


def test_sound_as_pictures():
    encoder = build_encoder("timm:test_vit,weights=random,frames=3,keep=steps", "audio")
    assert encoder.modality == "audio"
    assert encoder.spec == "timm:test_vit,modality=audio,frames=3,keep=steps,weights=random"
    assert encoder.prepare.sample_rate_hz == 16000
    pictures = encoder.prepare(SOUND)
    assert pictures.shape == (3, 3, 160, 160)
    mean, std = (torch.tensor(encoder.preprocessing["images"][key])[:, None, None] for key in ("mean", "std"))
    third = MelPicture().draw(torch.from_numpy(SOUND[:6667]), 160, 160)
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


def test_another_input_size():
    for name in ("test_vit", "test_resnet"):
        for size, pixels in (("96", (96, 96)), ("96x64", (96, 64)), ("64X64", (64, 64))):
            encoder = build_encoder(f"timm:{name},weights=random,size={size}", "video")
            assert encoder.prepare(CLIP).shape == (8, 3, *pixels)
            assert encoder.embed([encoder.prepare(CLIP)])[0].shape == (encoder.embed_dim,)
    assert (
        build_encoder("timm:test_vit,size=64x64,weights=random", "video").spec == "timm:test_vit,size=64,weights=random"
    )


def test_a_crop_is_resized_as_a_whole():
    encoder = build_encoder("timm:test_resnet,weights=random,size=30x20,frames=8,crop=0.25:0.5:0.75:1", "video")
    mean, std = (torch.tensor(encoder.preprocessing["images"][key])[:, None, None] for key in ("mean", "std"))
    filter_of_timm = Image.Resampling[encoder.preprocessing["images"]["interpolation"].upper()]
    part = [Image.fromarray(frame[30:, 20:60]).resize((20, 30), filter_of_timm) for frame in CLIP]
    expected = torch.from_numpy(np.stack(part)).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(encoder.prepare(CLIP) * std + mean, expected, atol=1e-5, rtol=0)
    assert encoder.preprocessing["crop"] == "0.25:0.5:0.75:1"
    assert encoder.preprocessing["size"] == "30x20"
    own_size = build_encoder("timm:test_resnet,weights=random,crop=0:0:1:0.5", "video")
    assert own_size.prepare(CLIP).shape == (8, 3, 160, 160)


def test_one_channel():
    assert build_encoder("timm:test_resnet,weights=random", "video").model.conv1[0].in_channels == 3
    for name, media in (("video", CLIP), ("audio", SOUND)):
        encoder = build_encoder("timm:test_resnet,weights=random,channels=1,size=32", name)
        assert encoder.model.conv1[0].in_channels == 1
        inputs = encoder.prepare(media)
        assert inputs.shape[1:] == (1, 32, 32)
        assert encoder.embed([inputs])[0].shape == (encoder.embed_dim,)
        assert len(encoder.preprocessing["images"]["mean"]) == 1
    color = build_encoder("timm:test_resnet,weights=random,channels=3", "audio")
    plain = build_encoder("timm:test_resnet,weights=random", "audio")
    torch.testing.assert_close(color.prepare(SOUND), plain.prepare(SOUND))


def test_stacked_frames_are_the_channels_of_one_picture():
    for option, channels in (("", 3), (",channels=1", 1)):
        spec = f"timm:test_resnet,weights=random,size=32,frames=4{option}"
        stacked, single = build_encoder(f"{spec},stack=yes", "video"), build_encoder(spec, "video")
        inputs = stacked.prepare(CLIP[:4])
        torch.testing.assert_close(inputs, single.prepare(CLIP[:4]).reshape(1, 4 * channels, 32, 32), rtol=0, atol=0)
        assert stacked.model.conv1[0].in_channels == 4 * channels
        backwards = stacked.prepare(CLIP[3::-1].copy())
        assert not torch.allclose(*stacked.embed([inputs, backwards]))
        assert stacked.preprocessing["stack"] == "yes"


def test_weights_of_three_channels_serve_one(file):
    grey = build_encoder(f"timm:test_vit,channels=1,weights={file}", "audio")
    assert grey.model.patch_embed.proj.in_channels == 1
    assert not grey.random_weights


def test_pictures_for_training_from_scratch():
    encoder = build_encoder("timm:test_resnet,picture=spectrogram,channels=1,size=257x188,weights=random", "audio")
    assert encoder.prepare.sample_rate_hz == 22050
    assert encoder.preprocessing["picture"] == SpectrogramPicture().settings
    sound = torch.from_numpy(SOUND)
    picture = SpectrogramPicture().draw(sound, 257, 188)
    mean, std = (encoder.preprocessing["images"][key][0] for key in ("mean", "std"))
    torch.testing.assert_close(encoder.prepare(SOUND), (picture[None, None] - mean) / std)
    assert encoder.spec == (
        "timm:test_resnet,modality=audio,size=257x188,channels=1,picture=spectrogram,weights=random"
    )


def test_other_windows_and_rates():
    encoder = build_encoder("timm:test_resnet,weights=random,sample_rate=8000,window=200,hop=80", "audio")
    assert encoder.prepare.sample_rate_hz == 8000
    assert encoder.preprocessing["picture"] == MelPicture(8000, 200, 80).settings
    assert "window" not in encoder.preprocessing


def test_preprocessing_of_existing_caches_is_unchanged():
    """Fingerprints of caches depend on these keys: one more would force a new extraction."""
    images = {"input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode"}
    keys = {"modality", "frames", "rate", "size", "keep", "max_steps", "images"}
    for size in (None, 96):
        option = "" if size is None else f",size={size}"
        for name, more in (("video", set()), ("audio", {"picture"})):
            preprocessing = build_encoder(f"timm:test_vit,weights=random{option}", name).preprocessing
            assert set(preprocessing) == keys | more
            assert set(preprocessing["images"]) == images
            assert preprocessing["size"] == size
            assert preprocessing["images"]["input_size"] == [3, size or 160, size or 160]
    assert preprocessing["picture"] == {
        "sample_rate": 16000,
        "bands": 128,
        "window_samples": 400,
        "fft_samples": 2048,
        "hop_samples": 160,
        "range_db": 80,
    }


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


def test_pretrained_weights_are_found_on_disk(file, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    place = tmp_path / "torch" / "hub" / "checkpoints" / "timm--test_vit.r160_in1k.safetensors"
    place.parent.mkdir(parents=True)
    file.rename(place)
    encoder = build_encoder("timm:test_vit", "video")
    assert (encoder.spec, encoder.random_weights) == ("timm:test_vit", False)
    assert encoder.weights_sha256 == build_encoder(f"timm:test_vit,weights={place}", "video").weights_sha256


def test_a_file_that_lacks_weights_is_refused(file):
    state = {name: tensor.clone() for name, tensor in _state(file).items()}  # not a map of the file
    lacking = {name: tensor for name, tensor in state.items() if name != "blocks.1.mlp.fc1.weight"}
    save_file(lacking, file)
    with pytest.raises(ValueError, match=r"weights must hold .* such as blocks\.1\.mlp\.fc1\.weight"):
        build_encoder(f"timm:test_vit,weights={file}", "video")
    save_file({**state, "norm.weight": torch.zeros(3)}, file)
    with pytest.raises(ValueError, match="weights must hold the model's tensors"):
        build_encoder(f"timm:test_vit,weights={file}", "video")
    with pytest.raises(ValueError, match="weights must hold the model's tensors"):
        build_encoder(f"timm:test_resnet,weights={file}", "video")


def test_the_location_of_published_weights_is_known(monkeypatch):
    requested = {}

    def remember(option, file, model):
        requested[model] = file
        raise FileNotFoundError

    monkeypatch.setattr("amr.extract.encoders.families.timm.find_weights", remember)
    for name in ("resnet18", "vit_small_patch14_dinov2.lvd142m", "vit_base_patch16_clip_224.openai"):
        with pytest.raises(FileNotFoundError):
            build_encoder(f"timm:{name}", "video")
    assert requested["timm:resnet18"].url.endswith("/timm/resnet18.a1_in1k/resolve/main/model.safetensors")
    assert requested["timm:resnet18"].place.name == "timm--resnet18.a1_in1k.safetensors"
    assert all(file.repo for file in requested.values())
    assert find_weights is not remember


def test_prepare_can_be_sent_to_a_worker():
    for name, media in (("video", CLIP), ("audio", SOUND)):
        prepare = build_encoder("timm:test_vit,weights=random", name).prepare
        torch.testing.assert_close(pickle.loads(pickle.dumps(prepare))(media), prepare(media))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("timm:resnt18", r"Did you mean timm:resnet18\?"),
        ("timm", "timm must name one of its models, got none"),
        ("timm:test_vit,frames=2,rate=3", "frames must be left out with rate"),
        ("timm:test_vit,frames=0", "frames must be at least 1, got 0. Leave it out"),
        ("timm:test_vit,weigths=random", "Did you mean weights"),
        ("timm:test_vit,size=0", "size must be HxW, got '0'. Type size=224"),
        ("timm:test_vit,channels=2", "channels must be 1 or 3, got 2"),
        ("timm:test_vit,crop=1:0:0:1", "crop must be left:top:right:bottom"),
        ("timm:test_vit,crop=0:0:1:0.5,modality=audio", "crop must be left out for modality=audio"),
        ("timm:test_vit,stack=yes,rate=2", "stack must be no with rate, got yes"),
        ("timm:test_vit,stack=yes,keep=steps", "stack must be no with keep=steps, got yes"),
        ("timm:test_vit,stack=yes,modality=audio", "stack must be left out for modality=audio"),
        ("timm:test_vit,hop=3", "hop must be left out for modality=video, got 3"),
        ("timm:test_vit,hop=0,modality=audio", "hop must be at least 1, got 0. Pass hop=160."),
    ],
)
def test_wrong_specs(spec, message):
    with pytest.raises(ValueError, match=message):
        build_encoder(spec, "video")


def _state(path: Path) -> dict[str, torch.Tensor]:
    from amr.extract.encoders.weights import read_state

    return read_state(path)
