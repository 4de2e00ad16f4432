"""Methods outside the trainer, and clips for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from amr.fusion.data.clips import Batch, Clips
from amr.fusion.methods import Method, methods
from amr.fusion.methods.base import Method as Base
from amr.fusion.model import Fitted, FusionModel
from amr.fusion.train.recipe import Member
from amr.fusion.train.trainer import _context, plain_step, train_group

from ..conftest import make_clips, make_recipe

HALF = (0.5, 0.5)
SEEDS = (0, 3)
JOINT = [name for name, method in methods.items() if method.fuses and not method.single_modality]
DIMS = {"audio": 8, "video": 6}


def build(
    name: str,
    train: Clips | None = None,
    val: Clips | None = None,
    seeds: tuple[int, ...] = SEEDS,
    options: Mapping[str, Any] | None = None,
    **changes: object,
) -> tuple[Method, FusionModel]:
    """A method on a new model, as the trainer makes it."""
    train = make_clips(30) if train is None else train
    val = make_clips(15, seed=1) if val is None else val
    chosen = methods[name].Options(**(options or {}))
    recipe = make_recipe(train, **{"method": name, "adapter": "linear", "epochs": 2, **changes, "options": chosen})
    model = FusionModel(recipe.shape, seeds)
    context = _context(recipe, [Member(seed) for seed in seeds], model, train, val, plain_step)
    return recipe.method(chosen, context), model


def fit_group(
    name: str,
    members: list[Member],
    train: Clips,
    val: Clips,
    options: Mapping[str, Any] | None = None,
    **changes: object,
) -> Fitted:
    """Members trained by a method with its own optimizer, by default for four epochs."""
    method = methods[name]
    changes = {"adapter": "linear", "optimizer": method.optimizer, "head": method.head or "concat", **changes}
    chosen = method.Options(**(options or {}))
    return train_group(make_recipe(train, method=name, options=chosen, **changes), members, train, val)


def batch_of(clips: Clips, num_runs: int = len(SEEDS)) -> Batch:
    """All clips, in another order for each run."""
    index = torch.stack(
        [torch.randperm(len(clips), generator=torch.Generator().manual_seed(i)) for i in range(num_runs)]
    )
    return Batch({m: e[index] for m, e in clips.embeddings.items()}, clips.present[index], clips.target[index])


def with_gaps(clips: Clips) -> Clips:
    """Clips of which every third lacks the first modality, every fourth the last, and none lacks all."""
    present = clips.present.clone()
    present[::3, 0] = False
    present[1::4, -1] = False
    present[~present.any(-1), 0] = True
    embeddings = {
        m: torch.where(present[:, i].view(-1, *[1] * (e.ndim - 1)), e, 0)
        for i, (m, e) in enumerate(clips.embeddings.items())
    }
    return Clips(embeddings, present, clips.target)


def gradients(method: Base, model: FusionModel, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of each run, and gradients of the model's parameters by name."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    loss = method.loss(model, batch, model.encode(batch))
    values = torch.autograd.grad(loss.sum(), parameters, materialize_grads=True)
    return loss.detach(), dict(zip(names, values, strict=True))


def layers(model: FusionModel, run: int) -> dict[str, torch.nn.Linear]:
    """Adapters and linear concat classifier of one run, as nn.Linear."""
    result = {}
    for name, weight in model.state_dict().items():
        if name.endswith(".weight"):
            layer = torch.nn.Linear(weight.shape[2], weight.shape[1])
            layer.weight.data, layer.bias.data = (
                weight[run].clone(),
                model.state_dict()[f"{name[:-6]}bias"][run].clone(),
            )
            result[name.split(".")[1]] = layer
    return result


def assert_same(left: Mapping[str, Tensor], right: Mapping[str, Tensor], **tolerance: float) -> None:
    """Assert equality, bit for bit or within the tolerance."""
    assert left.keys() == right.keys()
    for name in left:
        if tolerance:
            torch.testing.assert_close(left[name], right[name], **tolerance)
        else:
            assert torch.equal(left[name], right[name]), name


def val_accuracy(fitted: Fitted, run: int = 0) -> float:
    """Val accuracy of a run's best epoch."""
    return float(fitted.history["val_accuracy"][fitted.best_epoch[run] - 1, run])
