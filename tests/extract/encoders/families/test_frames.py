from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from amr.extract.encoders import build_encoder
from amr.extract.media.sampling import FrameSampling

CLIP = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)


def embed(spec: str, clip: np.ndarray = CLIP) -> torch.Tensor:
    encoder = build_encoder(spec, "video")
    (embedding,) = encoder.embed([encoder.prepare(clip)])
    assert embedding.dtype == torch.float32
    assert embedding.shape[-1] == encoder.embed_dim
    return embedding


def test_attributes():
    encoder = build_encoder("frames,grid=8,frames=3,keep=steps", "anything")
    assert (encoder.modality, encoder.embed_dim, encoder.max_steps) == ("video", 64, 3)
    assert encoder.spec == "frames,frames=3,grid=8x8,keep=steps"
    assert (encoder.prepare.sample_rate_hz, encoder.prepare.sampling) == (None, FrameSampling(num_frames=3))
    assert build_encoder("frames,grid=16", "video").spec == "frames"


def test_cells_are_means_of_pixels():
    rgb = embed("frames,frames=3,grid=6x8,colour=rgb,keep=steps")
    expected = (CLIP / 255).reshape(3, 6, 8, 8, 8, 3).mean((2, 4)).transpose(0, 3, 1, 2).reshape(3, -1)
    np.testing.assert_allclose(rgb.numpy(), expected, atol=1e-5)
    grey = embed("frames,frames=3,grid=6x8,keep=steps")
    luma = np.einsum("c,tcn->tn", (0.299, 0.587, 0.114), expected.reshape(3, 3, -1))
    np.testing.assert_allclose(grey.numpy(), luma, atol=1e-5)


def test_flat_concatenates_frames():
    torch.testing.assert_close(embed("frames,frames=3"), embed("frames,frames=3,keep=steps").flatten())


def test_a_crop_equals_a_clip_cut_before():
    cropped = embed("frames,frames=3,grid=4x4,crop=0.25:0.5:0.75:1")
    torch.testing.assert_close(cropped, embed("frames,frames=3,grid=4x4", CLIP[:, 24:, 16:48]))


def test_pictures_smaller_than_the_grid():
    assert torch.isfinite(embed("frames,frames=3", CLIP[:, :1, :2])).all()
    assert torch.isfinite(embed("frames,frames=3,crop=0.99:0.99:1:1", CLIP[:, :3, :3])).all()


def test_prepare_can_be_sent_to_a_worker():
    prepare = build_encoder("frames,frames=3", "video").prepare
    torch.testing.assert_close(pickle.loads(pickle.dumps(prepare))(CLIP), prepare(CLIP))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("frames:big", "frames must be given without a model"),
        ("frames,frames=0", "frames must be at least 1, got 0. Pass frames=10."),
        ("frames,grid=0x4", "grid must be HxW, got '0x4'"),
        ("frames,grid=axb", "grid must be HxW, got 'axb'"),
        ("frames,crop=1:0:0:1", "crop must be left:top:right:bottom"),
        ("frames,crop=0:1", "crop must be left:top:right:bottom"),
        ("frames,color=rgb", "Did you mean colour"),
    ],
)
def test_wrong_specs(spec, message):
    with pytest.raises(ValueError, match=message):
        build_encoder(spec, "video")
