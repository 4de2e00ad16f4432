from __future__ import annotations

import math
from dataclasses import replace

import pytest

from amr.fusion.end_to_end.config import AugmentConfig, TrainConfig
from amr.fusion.end_to_end.presets import preset
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
    ({"hidden": 8}, "--hidden must be used with --objective joint, got 8"),
    ({"teachers": "x"}, "--teachers must be used with --objective joint, got x with unimodal"),
    ({"optimizer": "adamax"}, r"--optimizer must be one of sgd, adam, adamw, got 'adamax'"),
    ({"momentum": 1}, "--momentum must be from 0 to below 1, got 1.0. The default is 0.9"),
    ({"momentum": 0.5, "optimizer": "adamw"}, "--momentum must be used with --optimizer sgd, got 0.5 with adamw"),
    ({"lr": 0.0}, "--lr must be above 0"),
    ({"lr": math.nan}, "--lr must be finite and above 0, got nan"),
    ({"epochs": 0}, "--epochs must be 1 or more, got 0. The default is 100"),
    ({"patience": 0}, "--patience must be 1 or more, got 0. Leave it out"),
    ({"patience": 3, "select": "last"}, "--patience must be left out with --select last, got 3. Leave one"),
    ({"lr_factor": 1.5}, "--lr-factor must be from 0 to 1"),
    ({"shift": -0.1}, "--shift must be from 0 to 1"),
    ({"time_crop": 0}, "--time-crop must be above 0 and at most 1, got 0.0. Leave it out for the default"),
    ({"time_crop": 1.5}, "--time-crop must be above 0 and at most 1, got 1.5"),
    ({"flip": "yes"}, "--flip must be True or False, got 'yes'"),
    ({"preset": "from-scratch", "encoder": TWO}, "--preset must be used without --encoder"),
    ({"encoder": ("timm:resnet18",)}, "--encoder must be NAME=SPEC"),
    ({"encoder": ("joint=timm:resnet18",)}, "NAME without dots, and none of joint, teachers"),
    ({"encoder": ("run=timm:resnet18",)}, "NAME without dots, and none of joint, teachers, tensorboard, logs, run"),
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


def test_own_encoders_have_no_augmentation_but_what_is_requested():
    config = TrainConfig(dataset="vggsound", encoder=TWO)
    assert config.augmentation == AugmentConfig()
    assert TrainConfig(dataset="vggsound", encoder=TWO, resized_crop=True).augmentation == AugmentConfig(
        resized_crop=True
    )


@pytest.mark.parametrize("dataset", ["crema-d", "vggsound", "synthetic"])
def test_the_preset_is_the_dataset_s_and_an_option_wins(dataset):
    config, own = TrainConfig(dataset=dataset), preset(dataset)
    assert config.encoders == TrainConfig(dataset=dataset, preset="from-scratch").encoders == own.encoders
    assert config.augmentation == AugmentConfig(flip=own.flip, resized_crop=own.resized_crop, time_crop=own.time_crop)
    for name, value in (("flip", not own.flip), ("resized_crop", False), ("time_crop", 0.25), ("shift", 0.1)):
        changed = replace(config, **{name: value})
        assert changed.augmentation == replace(config.augmentation, **{name: value})
        assert getattr(changed.resolved(), name) == value


@pytest.mark.parametrize("changes", [{"dataset": "vggsound"}, {"manifest": "x.csv", "flip": True}])
def test_a_resolved_training_is_the_same_training(changes):
    config = TrainConfig(**changes)
    resolved = config.resolved()
    assert resolved.preset is None
    assert (resolved.encoders, resolved.augmentation) == (config.encoders, config.augmentation)
    assert resolved.resolved() == resolved
    assert None not in (resolved.flip, resolved.resized_crop, resolved.time_crop)
