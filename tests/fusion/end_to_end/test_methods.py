"""Every method that can train encoders does, on small networks and clips in memory, some of which lack a modality."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.data.clips import Batch
from amr.fusion.end_to_end import media_clips as module_of_clips
from amr.fusion.end_to_end.augment import Augment
from amr.fusion.end_to_end.model import EncoderModel
from amr.fusion.methods import methods
from amr.fusion.model import Fitted, ModelShape
from amr.fusion.train.hooks import EndToEndHooks
from amr.fusion.train.recipe import Member, Recipe
from amr.fusion.train.trainer import train_group

from ...gpu.test_encoders import DIM, SHAPES, Network, media_clips, networks

ABLE = [name for name, method in methods.items() if method.end_to_end]
BATCH, AT_ONCE, EPOCHS = 5, 6, 3  # the last batch of 16 clips has one; after 3 epochs, every warm-up is over


class Kept:
    """Callback that keeps the state after the second epoch, with that of the augmentation, and resumes from one."""

    def __init__(self, augment: Augment, state: dict[str, Any] | None = None) -> None:
        self.augment, self.state = augment, state
        self.epochs = 0

    def resume(self) -> dict[str, Any] | None:
        if self.state is not None:
            self.augment.set_state(self.state["augment"])
        return self.state

    def epoch(self, epoch_values, state, *, last, val_logits=None) -> None:
        assert all(torch.isfinite(value).all() for value in epoch_values.values())
        self.epochs += 1
        if self.state is None and self.epochs == EPOCHS - 1:
            self.state = {**deepcopy(state()), "augment": deepcopy(self.augment.state())}


def shape_of(names: list[str], head: str) -> ModelShape:
    return ModelShape.of(dict.fromkeys(names, DIM), 3, head=head, hidden=0, adapter="none", adapter_dim=1)


def alone(modality: str) -> Fitted:
    """A uni-modal model of other weights than those that the training begins with."""
    network = Network(SHAPES[modality][1], 7)
    model = EncoderModel(shape_of([modality], "concat"), [0], {modality: network}).eval()
    return Fitted(model, torch.ones(1, dtype=torch.long), {}, torch.zeros(1, dtype=torch.bool))


def train(name: str, state: dict[str, Any] | None = None) -> tuple[Fitted, Kept]:
    method, clips = methods[name], media_clips("cpu")
    assert clips.augment is not None
    kept = Kept(clips.augment, state)
    recipe = Recipe(
        shape_of([*SHAPES], method.head or "concat"),
        method,
        method.Options(),
        Attributor(),
        EPOCHS,
        BATCH,
        "sgd",
        0.01,
        1e-4,
        "separate",
        "last",
    )
    hooks = EndToEndHooks(lambda shape, seeds: EncoderModel(shape, seeds, networks()), alone, kept)
    member = Member(0, (0.5, 0.5) if method.fuses else None, 1.0)
    return train_group(recipe, [member], clips, media_clips("cpu", num_clips=8), hooks=hooks), kept


@pytest.mark.parametrize("name", ABLE)
def test_each_trains_encoders_in_chunks_and_resumes(name, monkeypatch):
    monkeypatch.setattr(module_of_clips, "CLIPS_AT_ONCE", AT_ONCE)
    most, encode = 0, EncoderModel.encode

    def listen(self: EncoderModel, batch: Batch) -> dict[str, Tensor]:
        nonlocal most
        most = max(most, batch.present.shape[1])
        return encode(self, batch)

    monkeypatch.setattr(EncoderModel, "encode", listen)
    fitted, kept = train(name)
    ours = fitted.model.state_dict()
    first = EncoderModel(fitted.model.shape, [0], networks()).state_dict()
    assert all(torch.isfinite(value).all() for value in ours.values())
    moved = [key for key, value in ours.items() if not torch.equal(value, first[key])]
    assert {key.split(".")[1] for key in moved if key.startswith("adapters.")} == set(SHAPES)
    assert any(key.startswith("head.") for key in moved)
    assert most <= AT_ONCE
    if kept.state is not None:  # an ensemble is assembled, not trained
        resumed, _ = train(name, kept.state)
        assert all(torch.equal(value, ours[key]) for key, value in resumed.model.state_dict().items())
