from __future__ import annotations

import tomllib
from dataclasses import fields

import numpy as np
import pytest
import torch

from amr.data_manifests.datasets import datasets
from amr.extract.encoders import build_encoder
from amr.extract.encoders.model import ModelEncoder
from amr.fusion.end_to_end.presets import FILE, MODALITIES, OTHER, preset, read_presets

SETTINGS = {
    "crema-d": (22050, 512, 353, 3),
    "vggsound": (16000, 256, 128, 10),
    "ave": (16000, 256, 128, 10),
    "ucf-101": (16000, 512, 353, 7),
    OTHER: (22050, 512, 353, 3),
}
PICTURES = {
    "crema-d": (257, 188),
    "vggsound": (129, 1251),
    "ave": (129, 1251),
    "ucf-101": (257, 318),
    OTHER: (257, 188),
}


def test_every_value_has_a_source():
    for name, table in tomllib.loads(FILE.read_text(encoding="utf-8")).items():
        assert name == OTHER or name in datasets
        assert table.keys() == {*MODALITIES, *(each.name for each in fields(preset(name)))} - {"encoders"}
        for setting, entry in table.items():
            assert entry.keys() == {"value", "source"}, setting
            assert entry["source"].strip(), setting


def test_a_dataset_has_its_own_preset_and_other_clips_the_same():
    presets = read_presets()
    assert presets.keys() == {*SETTINGS, "kinetics-sounds"}
    assert all(preset(name) == presets[name] for name in presets)
    assert preset("synthetic") == preset(None) == presets[OTHER]


def test_frames_are_mirrored_only_where_left_and_right_are_known_not_to_matter():
    assert {name: (each.flip, each.resized_crop, each.time_crop) for name, each in read_presets().items()} == {
        "crema-d": (True, True, 1),
        "vggsound": (True, True, 0.5),
        "kinetics-sounds": (True, True, 1),
        "ave": (True, True, 1),
        "ucf-101": (True, True, 1),
        OTHER: (False, True, 1),
    }


@pytest.mark.parametrize("name", SETTINGS)
def test_the_sound_encoder_gets_the_published_spectrogram(name):
    sample_rate, window, hop, seconds = SETTINGS[name]
    encoder = build_encoder(preset(name).encoders["audio"], "audio")
    assert isinstance(encoder, ModelEncoder)
    assert (encoder.modality, encoder.embed_dim, encoder.random_weights) == ("audio", 512, True)
    assert sum(p.numel() for p in encoder.model.parameters()) == pytest.approx(11.2e6, rel=0.01)
    assert encoder.prepare.sample_rate_hz == sample_rate
    sound = np.random.default_rng(0).normal(size=seconds * sample_rate).astype(np.float32) * 0.1
    picture = encoder.prepare(sound)
    assert picture.shape == (1, 1, *PICTURES[name])
    stft = torch.stft(
        torch.from_numpy(sound), window, hop, window=torch.hann_window(window), pad_mode="constant", return_complex=True
    )
    theirs = (stft.abs() + 1e-7).log().flip(0)
    assert theirs.shape == picture.shape[2:]
    together = torch.stack([picture[0, 0].flatten(), theirs.flatten()])
    assert float(torch.corrcoef(together)[0, 1]) > 0.9999  # the same but for scale and shift


def test_half_a_sound_of_vggsound_is_the_published_picture_of_five_seconds():
    width = torch.stft(torch.zeros(5 * 16000), 256, 128, window=torch.hann_window(256), return_complex=True).shape[-1]
    assert round(preset("vggsound").time_crop * 1251) == width == 626


def test_the_sound_encoder_of_kinetics_sounds_gets_128_mel_bands():
    encoder = build_encoder(preset("kinetics-sounds").encoders["audio"], "audio")
    assert isinstance(encoder, ModelEncoder)
    assert (encoder.modality, encoder.embed_dim, encoder.random_weights) == ("audio", 512, True)
    picture = encoder.preprocessing["picture"]
    assert (picture["sample_rate"], picture["bands"]) == (16000, 128)
    assert (picture["window_samples"], picture["hop_samples"]) == (400, 160)  # 25 ms, 10 ms
    assert encoder.prepare(np.ones(160000, np.float32)).shape == (1, 1, 128, 1024)


@pytest.mark.parametrize("name", [*SETTINGS, "kinetics-sounds"])
def test_the_video_encoder_gets_three_whole_frames(name):
    encoder = build_encoder(preset(name).encoders["video"], "video")
    assert isinstance(encoder, ModelEncoder)
    assert (encoder.modality, encoder.embed_dim, encoder.random_weights) == ("video", 512, True)
    assert sum(p.numel() for p in encoder.model.parameters()) == pytest.approx(11.2e6, rel=0.01)
    assert encoder.prepare.sampling is not None
    assert encoder.prepare.sampling.num_frames == 3
    frames = np.zeros((3, 60, 80, 3), np.uint8)
    frames[:, :, :8] = 255  # at the left edge, which a center crop would cut
    pictures = encoder.prepare(frames)
    assert pictures.shape == (3, 3, 224, 224)
    mean, std = (torch.tensor(each)[:, None, None] for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    shown = pictures * std + mean
    assert float(shown[..., :20].mean()) == pytest.approx(1, abs=0.02)
    assert float(shown[..., 25:].mean()) == pytest.approx(0, abs=0.02)
