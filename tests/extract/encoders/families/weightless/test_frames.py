from __future__ import annotations

import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.nn import functional

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


@pytest.mark.parametrize(("height", "width", "grid"), [(7, 5, "3x2"), (600, 90, "2x9"), (1, 90, "8x3"), (9, 7, "1x1")])
def test_means_are_exact_to_the_last_bit(height, width, grid):
    clip = np.random.default_rng(height).integers(200, 256, (1, height, width, 3), dtype=np.uint8)
    found = embed(f"frames,frames=1,grid={grid},colour=rgb", clip).numpy()
    rows, columns = map(int, grid.split("x"))
    cells = [
        clip[0, row * height // rows : math.ceil((row + 1) * height / rows)][
            :, column * width // columns : math.ceil((column + 1) * width / columns)
        ]
        for row in range(rows)
        for column in range(columns)
    ]
    exact = [[Fraction(int(cell[..., color].sum()), 255 * cell[..., 0].size) for cell in cells] for color in range(3)]
    np.testing.assert_array_equal(found, np.float32(np.array(exact, dtype=float)).flatten())
    pooled = functional.adaptive_avg_pool2d(torch.from_numpy(clip).permute(0, 3, 1, 2).double() / 255, (rows, columns))
    np.testing.assert_allclose(found, pooled.flatten(), rtol=1e-7)


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
