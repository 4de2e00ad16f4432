from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from amr.extract.cache.reader import Cache
from amr.extract.config import ExtractConfig
from amr.extract.encoders import build_encoder
from amr.extract.encoders.families.weightless import motion
from amr.extract.media.sampling import FrameSampling
from amr.extract.run import extract_embeddings
from amr.fusion.config import FitConfig
from amr.fusion.fit import fit

RNG = np.random.default_rng(0)
CLIP = RNG.integers(0, 256, (9, 48, 64, 3), dtype=np.uint8)


def embed(spec: str, clip: np.ndarray = CLIP) -> torch.Tensor:
    encoder = build_encoder(spec, "motion")
    (embedding,) = encoder.embed([encoder.prepare(clip)])
    assert embedding.dtype == torch.float32
    assert embedding.shape[-1] == encoder.embed_dim
    return embedding


def test_attributes():
    encoder = build_encoder("motion,rate=5,grid=2,steps=3,keep=steps", "anything")
    assert (encoder.modality, encoder.embed_dim, encoder.max_steps) == ("video", 4, 3)
    assert encoder.spec == "motion,rate=5,grid=2x2,steps=3,keep=steps"
    assert (encoder.prepare.sample_rate_hz, encoder.prepare.sampling) == (None, FrameSampling(rate_hz=5))
    assert build_encoder("motion,grid=8,rate=10", "video").spec == "motion"


def test_cells_are_mean_differences_of_gray_levels():
    """Each point is one pixel here, so that the differences are those of pixels."""
    found = embed("motion,grid=6x8,steps=4,keep=steps")
    gray = torch.from_numpy(CLIP / 255 @ (0.299, 0.587, 0.114))
    differences = functional.avg_pool2d((gray[1:] - gray[:-1]).abs(), motion.DETAIL)  # (frames - 1, rows, columns)
    expected = functional.adaptive_avg_pool1d(differences.flatten(1).T, 4).T
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(embed("motion,grid=6x8,steps=4"), found.flatten())


def test_only_what_moves_is_seen():
    """A square of 8 x 8 pixels steps from one cell to the next at every frame."""
    clip = np.zeros((4, 16, 32, 3), np.uint8)
    for number in range(4):
        clip[number, 8:, 8 * number : 8 * number + 8] = 255
    moves = embed("motion,grid=2x4,steps=3,keep=steps", clip).reshape(3, 2, 4)
    assert not moves[:, 0].any()
    np.testing.assert_allclose(moves[:, 1], [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]], atol=1e-6)


def test_a_clip_that_stands_still_or_is_one_picture_has_no_motion():
    assert not embed("motion", np.repeat(CLIP[:1], 5, axis=0)).any()
    assert not embed("motion,keep=steps", CLIP[:1]).any()


def test_blocks_give_what_the_whole_gives(monkeypatch):
    whole = embed("motion,steps=3,grid=2")
    monkeypatch.setattr(motion, "FRAMES_AT_ONCE", 3)
    torch.testing.assert_close(embed("motion,steps=3,grid=2"), whole, rtol=0, atol=0)


def test_a_crop_equals_a_clip_cut_before():
    torch.testing.assert_close(embed("motion,crop=0.25:0.5:0.75:1"), embed("motion", CLIP[:, 24:, 16:48]))


def test_prepare_can_be_sent_to_a_worker():
    prepare = build_encoder("motion", "motion").prepare
    torch.testing.assert_close(pickle.loads(pickle.dumps(prepare))(CLIP), prepare(CLIP))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("motion:fast", "motion must be given without a model"),
        ("motion,rate=0", "rate must be above 0, got 0. Pass rate=10."),
        ("motion,rate=nan", "rate must be above 0, got nan"),
        ("motion,steps=0", "steps must be at least 1, got 0. Pass steps=10."),
        ("motion,grid=0x4", "grid must be HxW, got '0x4'"),
        ("motion,crop=0:1", "crop must be left:top:right:bottom"),
    ],
)
def test_wrong_specs(spec, message):
    with pytest.raises(ValueError, match=message):
        build_encoder(spec, "motion")


def test_real_videos_get_a_third_modality(test_data, tmp_path):
    clips = sorted((test_data / "grid" / "clips").glob("*.mp4"))[:12]
    rows = [f"{clip},{'ab'[i % 2]},{('train', 'train', 'val', 'test')[i // 2 % 4]}" for i, clip in enumerate(clips)]
    (tmp_path / "clips.csv").write_text("\n".join(["path,label,split", *rows]))
    config = ExtractConfig(
        manifest=str(tmp_path / "clips.csv"),
        encoder=("audio=logmel", "video=frames", "motion=motion"),
        out=str(tmp_path / "three.h5"),
        device="cpu",
    )
    assert extract_embeddings(config).embedded == {"audio": 12, "video": 12, "motion": 12}
    with Cache.open(tmp_path / "three.h5") as cache:
        assert cache.names == ["audio", "video", "motion"]
        assert cache.info("motion").modality == "video"
        moving = cache.embedding("motion").reshape(12, 10, 8, 8).mean(1)
    # the speaker's face and mouth are in the middle of the picture, the background stands still
    assert (moving[:, 3:7, 3:5].mean((1, 2)) > 2 * moving[:, :, [0, 7]].mean((1, 2))).all()
    fitted = fit(FitConfig(cache=str(tmp_path / "three.h5"), amr_ratio="1:1:2", epochs=2, out=str(tmp_path / "run")))
    assert set(fitted.test["share"]) == {"audio", "video", "motion"}


def test_old_paths_still_work():
    from amr.extract.encoders.families import frames, logmel

    for module, name in ((frames, "cell_means"), (logmel, "LogMelOptions")):
        with pytest.warns(
            DeprecationWarning, match=rf"is now amr\.extract\.encoders\.families\.weightless\.\w+\.{name}"
        ):
            assert getattr(module, name) is not None
    assert Path(str(motion.__file__)).parent.name == "weightless"
