from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from amr.extract.encoders import build_encoder
from amr.extract.encoders.model import ModelEncoder
from amr.fusion.end_to_end.config import FROM_SCRATCH, TrainConfig
from amr.fusion.methods import methods

TWO = ("audio=timm:resnet18", "video=timm:resnet18")

WRONG = [
    ({"dataset": None}, "must have one of --dataset and --manifest, got neither"),
    ({"manifest": "x.csv"}, "must have one of --dataset and --manifest, got --dataset d and --manifest x.csv"),
    ({"objective": "jont"}, r"--objective must be one of unimodal, joint, got 'jont'. Did you mean joint\?"),
    ({"method": "umt"}, "--method must be used with --objective joint, got umt with unimodal"),
    ({"method_option": ("p=.5",)}, "--method-option must be used with --objective joint, got p=.5 with unimodal"),
    ({"amr_ratio": "1:1"}, "--amr-ratio must be used with --objective joint"),
    ({"attribution": "permutation"}, "--attribution must be used with --objective joint, got permutation with unim"),
    ({"objective": "joint", "attribution": "permuation"}, r"--attribution .* Did you mean permutation\?"),
    ({"objective": "joint", "amr_level": "clip"}, "--amr-level must be used with --amr-ratio, got clip without it"),
    ({"hidden": 8}, "--hidden must be used with --objective joint, got 8"),
    ({"objective": "joint", "teachers": "x"}, "--teachers must be used with --method umt, got --method naive"),
    ({"optimizer": "adam"}, r"Did you mean adamw\?"),
    ({"lr": 0.0}, "--lr must be above 0"),
    ({"lr": math.nan}, "--lr must be above 0, got nan"),
    ({"epochs": 0}, "--epochs must be 1 or more, got 0. The default is 100"),
    ({"patience": 0}, "--patience must be 1 or more, got 0. Leave it out"),
    ({"patience": 3, "select": "last"}, "--patience must be left out with --select last, got 3. Leave one"),
    ({"lr_factor": 1.5}, "--lr-factor must be from 0 to 1"),
    ({"shift": -0.1}, "--shift must be from 0 to 1"),
    ({"preset": "from-scratch", "encoder": TWO}, "--preset must be used without --encoder"),
    ({"encoder": ("timm:resnet18",)}, "--encoder must be NAME=SPEC"),
    ({"encoder": ("joint=timm:resnet18",)}, "NAME without dots, and none of joint, teachers"),
    ({"encoder": ("a.b=timm:resnet18",)}, r"got 'a.b'. Pass audio=timm:resnet18"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_wrong_values_are_refused_at_once(changes, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**{"dataset": "d", **changes})


def test_the_defaults_are_the_from_scratch_setting():
    """They agree with the method that the setting comes from."""
    config = TrainConfig(dataset="d")
    method = methods["ogm-ge"]
    assert (config.optimizer, config.weight_decay) == (method.optimizer, method.weight_decay)
    assert (config.lr_step, config.lr_factor) == method.lr_step
    assert (config.lr, config.batch_size) == (1e-3, 64)
    assert config.encoders == TrainConfig(dataset="d", preset="from-scratch").encoders == FROM_SCRATCH


@pytest.mark.parametrize("name", FROM_SCRATCH)
def test_the_encoders_of_the_from_scratch_setting(name):
    """Peng et al. 2022: 3 s at 22.05 kHz to 257 x 188, three frames of 224 pixels, one ResNet-18 each."""
    encoder = build_encoder(FROM_SCRATCH[name], name)
    assert isinstance(encoder, ModelEncoder)
    assert (encoder.modality, encoder.embed_dim, encoder.random_weights) == (name, 512, True)
    assert sum(p.numel() for p in encoder.model.parameters()) == pytest.approx(11.2e6, rel=0.01)
    rng = np.random.default_rng(0)
    if name == "video":
        assert encoder.prepare.sampling is not None
        assert encoder.prepare.sampling.num_frames == 3
        assert encoder.prepare(rng.integers(0, 256, (3, 60, 80, 3), dtype=np.uint8)).shape == (3, 3, 224, 224)
        return
    assert encoder.prepare.sample_rate_hz == 22050
    sound = rng.normal(size=3 * 22050).astype(np.float32) * 0.1
    picture = encoder.prepare(sound)
    assert picture.shape == (1, 1, 257, 188)
    window = torch.hann_window(512)
    theirs = torch.stft(torch.from_numpy(sound), 512, 353, window=window, pad_mode="constant", return_complex=True)
    theirs = (theirs.abs() + 1e-7).log().flip(0)
    together = torch.stack([picture[0, 0].flatten(), theirs.flatten()])
    assert float(torch.corrcoef(together)[0, 1]) > 0.9999  # the same but for scale and shift
