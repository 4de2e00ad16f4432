"""Options that trainings of encoders share with `amr fit`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from amr.common.workspace import JOINT_RUN
from amr.fusion.attribution import attributions
from amr.fusion.choices import LEVELS
from amr.fusion.end_to_end.config import TrainConfig
from amr.fusion.end_to_end.folder import TrainResult
from amr.fusion.end_to_end.train import train_encoders
from amr.fusion.heads import heads
from amr.fusion.runs.read import read_run

from .test_train import assert_same_training, history, weights_of

MakeConfig = Callable[..., TrainConfig]
JOINT = {"objective": "joint", "epochs": 1, "batch_size": 18}
RULES = [(name, level) for name in attributions for level in LEVELS]


def same_weights(one: TrainResult, other: TrainResult, *, of_head: bool = True) -> bool:
    """Whether the encoders of two trainings, and by default their heads, are equal bit for bit."""
    ours, theirs = weights_of(one), weights_of(other)
    files = [file for file in ours if JOINT_RUN not in file and (of_head or "head" not in file)]
    assert files
    return all(torch.equal(value, theirs[file][name]) for file in files for name, value in ours[file].items())


HEADS = [(name, False) for name, head in heads.items() if head.listed] + [("gated", True)]


@pytest.mark.parametrize(("head", "experts"), HEADS)
def test_every_head_is_trained_with_encoders(request_for: MakeConfig, head, experts):
    result = train_encoders(request_for("mine", head=head, experts=experts, amr_ratio="1:3", **JOINT))
    run = read_run(result.folder / JOINT_RUN)
    assert (run.config.head, run.config.experts) == (head, experts)
    assert any("experts" in name for weights in weights_of(result).values() for name in weights) == experts
    assert run.test["accuracy"] == pytest.approx(result.test["accuracy"])
    assert run.test["share"] == pytest.approx(result.test["share"], abs=2e-3)
    assert np.isfinite(history(result.folder)[["train_loss", "regularization"]].to_numpy()).all()


def test_what_the_method_ignores_is_said(request_for: MakeConfig):
    result = train_encoders(request_for("mine", method="reconboost", experts=True, **JOINT))
    assert [*result.notes[-2:]] == [
        "--experts has no effect: --method reconboost has a head of its own",
        "--epochs 1 in stages of 1 never trains video; pass more --epochs",
    ]


@pytest.mark.parametrize(("attribution", "level"), RULES)
def test_levels_follow_the_rules_of_fit(request_for: MakeConfig, attribution, level):
    config = request_for("mine", amr_ratio="1:3", attribution=attribution, amr_level=level, **JOINT)
    if level == "clip" and attributions[attribution].uses_partners:
        with pytest.raises(ValueError, match=f"--amr-level must be batch for {attribution}"):
            train_encoders(config)
        return
    result = train_encoders(config)
    assert (history(result.folder)["regularization"] > 0).all()
    record = read_run(result.folder / JOINT_RUN).config
    assert (record.attribution, record.amr_level, record.amr_weight) == (attribution, level, config.regularizer_weight)


@pytest.mark.parametrize("optimizer", ["shared", "separate"])
def test_weight_0_is_plain_training(request_for: MakeConfig, optimizer):
    changes = JOINT | {"epochs": 2}
    plain = train_encoders(request_for("plain", **changes))
    off = train_encoders(request_for("off", amr_ratio="1:9", amr_weight=0.0, amr_optimizer=optimizer, **changes))
    assert same_weights(plain, off)
    assert (plain.val["accuracy"], plain.test["share"]) == (off.val["accuracy"], off.test["share"])


def test_a_shared_optimizer_trains_the_head_alone_too(request_for: MakeConfig):
    plain = train_encoders(request_for("plain", select="last", **JOINT))
    pulled = train_encoders(request_for("pulled", select="last", amr_ratio="1:9", amr_optimizer="shared", **JOINT))
    assert same_weights(plain, pulled, of_head=False)
    assert not same_weights(plain, pulled)


def test_the_epoch_is_selected_as_requested(request_for: MakeConfig):
    results = {
        s: train_encoders(request_for(s, select=s, **JOINT | {"epochs": 3})) for s in ("accuracy", "loss", "last")
    }
    table = history(results["last"].folder)
    assert results["last"].epochs["joint"]["best"] == 3
    assert results["loss"].epochs["joint"]["best"] == 1 + int(table["val_loss"].argmin())
    assert results["accuracy"].val["accuracy"] == pytest.approx(table["val_accuracy"].max(), abs=1e-5)
    for result in results.values():  # selection does not change what is learned
        assert history(result.folder)["train_loss"].tolist() == table["train_loss"].tolist()


def test_noise_changes_training_and_nothing_that_is_measured(request_for: MakeConfig):
    none, of_0, noisy = (
        train_encoders(request_for(f"n{n}", embedding_noise=n, **JOINT)) for n in (None, "audio=0:video=0", "audio=2")
    )
    assert_same_training(none, of_0)
    assert not same_weights(none, noisy)
    run = read_run(noisy.folder / JOINT_RUN)
    assert run.config.embedding_noise == "audio=2"
    assert run.test["accuracy"] == pytest.approx(noisy.test["accuracy"])


def test_noise_of_one_modality_leaves_the_other_encoder_alone(request_for: MakeConfig):
    plain, noisy = (
        train_encoders(request_for(f"n{n}", embedding_noise=n, epochs=1)) for n in (None, "audio=2:video=0")
    )
    ours, theirs = weights_of(noisy), weights_of(plain)
    same = {
        m: all(torch.equal(value, theirs[file][name]) for name, value in ours[file].items())
        for m in ("audio", "video")
        for file in [f"{m}/weights.safetensors"]
    }
    assert same == {"audio": False, "video": True}
    assert read_run(noisy.folder / "video" / JOINT_RUN).config.embedding_noise == "audio=2:video=0"
