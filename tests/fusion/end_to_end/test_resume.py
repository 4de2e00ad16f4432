"""A killed training of each method continues from what its checkpoint holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from amr.fusion.end_to_end.config import TrainConfig
from amr.fusion.end_to_end.train import train_encoders

from .test_train import KillAfter, Killed, assert_same_training, history

MakeConfig = Callable[..., TrainConfig]
BLENDING: dict[str, Any] = {"method": "gradient-blending"}

# Besides weights and optimizers, the next epoch depends on: measured weights, prototypes, a projection; parameters that
# a method discards; draws for z, for modalities and for units; the partners of permutation.
KILLED: dict[str, dict[str, Any]] = {
    "offline blending": {**BLENDING, "method_option": ("super_epoch=1",)},
    "online blending": {**BLENDING, "method_option": ("mode=online", "super_epoch=2"), "embedding_noise": "0.5"},
    "pmr": {"method": "pmr", "method_option": ("momentum=0.5",)},
    "mla": {"method": "mla"},
    "gge": {"method": "gge", "optimizer": "adamw", "lr": 1e-3},
    "modality-dropout": {"method": "modality-dropout", "embedding_noise": "audio=1:video=0"},
    "dropout": {"method": "dropout", "amr_ratio": "1:1", "attribution": "permutation"},
}


@pytest.mark.parametrize("kind", KILLED)
def test_a_killed_training_by_any_method_resumes_as_if_nothing_had_happened(request_for: MakeConfig, kind):
    """Bit for bit, with augmentation."""
    changes = {"objective": "joint", "epochs": 3, "time_crop": 0.5, "shift": 0.1, "flip": True, **KILLED[kind]}
    whole = train_encoders(request_for("whole", **changes), seconds_between=1e9)
    for epoch in (1, 2):  # the second time it is already a resumed one
        with pytest.raises(Killed):
            train_encoders(
                request_for("killed", **changes), KillAfter(f"{changes['method']}: epoch {epoch}/3"), seconds_between=0
            )
    progress = KillAfter("nothing")
    resumed = train_encoders(request_for("killed", **changes), progress, seconds_between=0)
    said = [line for line in progress.lines if line.startswith(changes["method"])]
    assert [line.split(",")[0].partition(": ")[2] for line in said] == ["continues after epoch 2/3", "epoch 3/3"]
    assert_same_training(whole, resumed)
    if kind == "online blending":  # measured before each super-epoch
        weights = history(resumed.folder)[["weight_audio", "weight_video", "weight_joint"]]
        assert (weights.iloc[0] == weights.iloc[1]).all()
        assert not (weights.iloc[1] == weights.iloc[2]).all()


def test_an_ensemble_that_was_killed_is_assembled_of_the_same_models(request_for: MakeConfig):
    changes = {"objective": "joint", "method": "ume"}
    whole = train_encoders(request_for("whole", **changes))
    with pytest.raises(Killed):
        train_encoders(request_for("killed", **changes), KillAfter("video: epoch 1/2"), seconds_between=0)
    progress = KillAfter("nothing")
    resumed = train_encoders(request_for("killed", **changes), progress, seconds_between=0)
    assert not [line for line in progress.lines if line.startswith("audio")]
    assert_same_training(whole, resumed)
    assert len(history(resumed.folder)) == 1
    assert train_encoders(request_for("killed", **changes)) == resumed  # its head is the method's, not --head
