from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torchvision.models import get_model, get_model_weights

from amr.extract.encoders import build_encoder
from amr.extract.encoders.families.torchvision import _cut_classifier
from amr.extract.encoders.registry import TORCHVISION_MODELS
from amr.extract.media.sampling import FrameSampling

CLIP = np.random.default_rng(0).integers(0, 256, (16, 60, 80, 3), dtype=np.uint8)
SMALL = "torchvision:mc3_18,weights=random,frames=4"


@pytest.mark.parametrize("name", TORCHVISION_MODELS)
def test_dims_equal_the_list(name):
    with torch.device("meta"):
        assert _cut_classifier(get_model(name, weights=None)) == TORCHVISION_MODELS[name]


def test_the_embedding_is_the_input_of_the_classifier():
    encoder = build_encoder(SMALL, "video")
    assert encoder.prepare.sampling == FrameSampling(num_frames=4)
    transform = get_model_weights("mc3_18").DEFAULT.transforms()
    inputs = encoder.prepare(CLIP[:4])
    torch.testing.assert_close(inputs[0], transform(torch.from_numpy(CLIP[:4]).permute(0, 3, 1, 2)))
    whole = get_model("mc3_18", weights=None).eval()
    whole.load_state_dict({**encoder.model.state_dict(), **{f"fc.{k}": v for k, v in whole.fc.state_dict().items()}})
    (embedding,) = encoder.embed([inputs])
    with torch.no_grad():
        torch.testing.assert_close(whole.fc(embedding), whole(inputs)[0], rtol=1e-4, atol=1e-4)


def test_clips_cut_into_pieces():
    encoder = build_encoder(f"{SMALL},rate=4,keep=steps,max_steps=2", "video")
    assert encoder.max_steps == 2
    inputs = [encoder.prepare(CLIP[:n]) for n in (6, 1, 12)]
    assert [len(each) for each in inputs] == [2, 1, 3]
    full = encoder.prepare(np.concatenate([CLIP[:6], CLIP[5:6], CLIP[5:6]]))
    torch.testing.assert_close(inputs[0], full)
    together = encoder.embed(inputs)
    assert [tuple(each.shape) for each in together] == [(2, 512), (1, 512), (2, 512)]
    for each, single in zip(together, inputs, strict=True):
        torch.testing.assert_close(encoder.embed([single])[0], each, rtol=1e-3, atol=1e-4)


def test_a_crop_equals_a_clip_cut_before():
    whole, part = (build_encoder(f"{SMALL}{crop}", "video") for crop in ("", ",crop=0.25:0.5:0.75:1"))
    torch.testing.assert_close(part.prepare(CLIP[:4]), whole.prepare(CLIP[:4, 30:, 20:60]))
    assert set(part.preprocessing) == {*whole.preprocessing, "crop"}
    assert part.spec == "torchvision:mc3_18,frames=4,crop=0.25:0.5:0.75:1,weights=random"


def test_preprocessing_of_existing_caches_is_unchanged():
    preprocessing = build_encoder(SMALL, "video").preprocessing
    assert set(preprocessing) == {"frames", "rate", "keep", "max_steps", "transform"}


def test_weights_from_a_file(tmp_path):
    encoder = build_encoder(SMALL, "video")
    torch.manual_seed(3)
    published = get_model("mc3_18", weights=None)
    torch.save(published.state_dict(), tmp_path / "mc3_18.pth")
    loaded = build_encoder(f"torchvision:mc3_18,frames=4,weights={tmp_path / 'mc3_18.pth'}", "video")
    assert not loaded.random_weights
    assert loaded.weights_sha256 != encoder.weights_sha256
    assert build_encoder(SMALL, "video").weights_sha256 == encoder.weights_sha256
    torch.testing.assert_close(loaded.model.stem[0].weight, published.stem[0].weight)
    with pytest.raises(ValueError, match="weights must hold the model's tensors"):
        build_encoder(f"torchvision:s3d,weights={tmp_path / 'mc3_18.pth'}", "video")


def test_prepare_can_be_sent_to_a_worker():
    prepare = build_encoder(SMALL, "video").prepare
    torch.testing.assert_close(pickle.loads(pickle.dumps(prepare))(CLIP), prepare(CLIP))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("torchvision:r3d18", r"Did you mean torchvision:r3d_18\?"),
        ("torchvision:mvit_v2_s,frames=8", "frames must be exactly 16 for mvit_v2_s, got 8"),
        ("torchvision:s3d,frames=8", "frames must be at least 14 for s3d, got 8"),
        ("torchvision:r3d_18,crop=0:0:2:1", "crop must be left:top:right:bottom"),
        ("torchvision:r3d_18,frames=0", "frames must be at least 1, got 0. Pass frames=16."),
    ],
)
def test_wrong_specs(spec, message):
    with pytest.raises(ValueError, match=message):
        build_encoder(spec, "video")
