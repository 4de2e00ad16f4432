"""Trainings on the GPU: each tensor is made there, no step waits for it, and results are those of the CPU."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.attribution.base import attributions
from amr.fusion.attribution.regularizer import AttributionRegularizer
from amr.fusion.data.clips import Clips
from amr.fusion.heads import heads
from amr.fusion.methods import methods
from amr.fusion.model import ModelShape
from amr.fusion.runs.measure import measure
from amr.fusion.train.recipe import Member
from amr.fusion.train.trainer import train_group

from ..fusion.conftest import make_clips, make_recipe
from .conftest import watched_step

pytestmark = pytest.mark.gpu
MEMBERS = [Member(0, (0.3, 0.7), 0.5), Member(0, None), Member(1, (0.5, 0.5), 1.0), Member(1, (0.5, 0.5), 0.1)]


def clips_with_gaps(num_clips: int = 32, steps: int = 0, seed: int = 0) -> Clips:
    """Clips of which some lack a modality; with `steps`, of up to that many."""
    clips = make_clips(num_clips, seed=seed)
    present = torch.ones(num_clips, 2, dtype=torch.bool)
    present[::7, 0] = present[3::9, 1] = False
    embeddings = {m: e * present[:, i, None] for i, (m, e) in enumerate(clips.embeddings.items())}
    if steps:
        lengths = 1 + torch.arange(num_clips) % steps
        valid = torch.arange(steps) < lengths[:, None]
        embeddings = {m: e[:, None] * valid[..., None] for m, e in embeddings.items()}
    return Clips(embeddings, present, clips.target)


def shape_of(clips: Clips, head: str, hidden: int = 4, adapter: str = "none") -> ModelShape:
    dims = {m: e.shape[-1] for m, e in clips.embeddings.items()}
    return ModelShape.of(dims, 3, head=head, hidden=hidden, adapter=adapter, adapter_dim=4)


def compared(gpu, recipe, train, val, members=MEMBERS):
    """Train on both devices; the steps on the GPU must not wait."""
    expected = train_group(recipe, members, train, val)
    fitted = train_group(recipe, members, gpu.clips(train), gpu.clips(val), make_step=watched_step(gpu))
    assert all(parameter.is_cuda for parameter in fitted.model.parameters())
    assert all(not value.is_cuda for value in (fitted.best_epoch, fitted.diverged, *fitted.history.values()))
    gpu.assert_near(fitted.model.state_dict(), expected.model.state_dict())
    if gpu.fake is not None:  # on a real one, a clip that is decided otherwise moves an accuracy
        gpu.assert_near(fitted.history, expected.history)
    return fitted, expected


@pytest.mark.parametrize("attribution", [*attributions])
@pytest.mark.parametrize("head", [name for name in heads if heads[name].listed])
def test_each_head_with_each_attribution(gpu, head, attribution):
    if gpu.fake is not None and head != "concat" and attribution != "grad_x_input":
        pytest.skip("needs a GPU: a CPU runs each head and each attribution, but not every pair")
    train, val = clips_with_gaps(), clips_with_gaps(12, seed=1)
    attributor = Attributor(attribution=attribution, num_points=2)
    for hidden in (0, 4) if head in ("concat", "sum") else (4,):
        recipe = replace(make_recipe(train, epochs=1, batch_size=16), attributor=attributor)
        fitted, expected = compared(gpu, replace(recipe, shape=shape_of(train, head, hidden)), train, val)
    ours = measure(fitted.model, gpu.clips(val), attributor)
    gpu.assert_alike(ours, measure(expected.model, val, attributor))


@pytest.mark.parametrize("method", [*methods])
@pytest.mark.parametrize("adapter", ["none", "linear", "mlp"])
def test_each_method(gpu, method, adapter):
    train, val = clips_with_gaps(), clips_with_gaps(12, seed=1)
    kind, members = methods[method], MEMBERS
    if gpu.fake is not None and adapter != "linear":
        pytest.skip("needs a GPU: a CPU runs each method with a linear adapter")
    if kind.needs_adapter and adapter == "none":
        pytest.skip("it acts on adapters")
    if kind.single_modality:
        train, val, members = train.only("audio"), val.only("audio"), [Member(0), Member(1)]
    options = kind.Options(super_epoch=1) if method == "gradient-blending" else kind.Options()
    settings = {"epochs": 2, "batch_size": 16, "optimizer": kind.optimizer, "options": options}
    recipe = make_recipe(train, method=method, **settings)
    shape = shape_of(train, kind.head or "concat", 0 if kind.head else 4, adapter)
    compared(gpu, replace(recipe, shape=shape), train, val, members)


@pytest.mark.parametrize(
    "changes",
    [
        {"output": "logit"},
        {"output": "centered", "pooling": "l1"},
        {"amr_optimizer": "separate", "members": [Member(0, (0.5, 0.5), 1.0), Member(1, (0.2, 0.8), 1.0)]},
        {"amr_level": "clip"},
        {"embedding_noise": (2.0, 0.5)},
        {"optimizer": "sgd", "lr_step": (1, 0.1)},
        {"optimizer": "adamax", "patience": 1, "select": "loss"},
        {"select": "last", "no_val": True},
        {"attributor": Attributor(attribution="shapley", baseline="mean")},
        {"attributor": Attributor(attribution="integrated_gradients", baseline="mean", num_points=2)},
        {"attributor": Attributor(attribution="integrated_gradients", baseline="mean", num_points=2), "adapter": "mlp"},
        {"attributor": Attributor(attribution="permutation"), "adapter": "linear", "embedding_noise": (1.0, 1.0)},
        {"num_classes": 12},
    ],
    ids=str,
)
def test_each_setting(gpu, changes):
    train, val = clips_with_gaps(), clips_with_gaps(12, seed=1)
    changes = dict(changes)
    members = changes.pop("members", MEMBERS)
    if changes.pop("no_val", False):
        val = val.take(torch.zeros(0, dtype=torch.long))
        compared_without_val(gpu, make_recipe(train, epochs=2, **changes), train, val)
        return
    compared(gpu, make_recipe(train, epochs=2, batch_size=16, **changes), train, val, members)


def compared_without_val(gpu, recipe, train, val):
    expected = train_group(recipe, MEMBERS, train, val)
    fitted = train_group(recipe, MEMBERS, gpu.clips(train), gpu.clips(val))
    gpu.assert_near(fitted.model.state_dict(), expected.model.state_dict())


@pytest.mark.parametrize("attribution", [*attributions])
def test_steps_in_time(gpu, attribution):
    train, val = clips_with_gaps(steps=3), clips_with_gaps(12, steps=3, seed=1)
    attributor = Attributor(attribution=attribution, num_points=2, baseline="mean")
    recipe = replace(make_recipe(train, epochs=2, batch_size=16), attributor=attributor)
    for adapter in ("none", "linear"):
        compared(gpu, replace(recipe, shape=shape_of(train, "attention", 8, adapter)), train, val)


def test_embeddings_in_host_memory_give_the_same(gpu):
    train, val = clips_with_gaps(), clips_with_gaps(12, seed=1)
    recipe = make_recipe(train, epochs=2, batch_size=16, method="modality-dropout")
    expected = train_group(recipe, MEMBERS, train, val)
    there, val_there = (replace(gpu.clips(clips), embeddings=clips.embeddings) for clips in (train, val))
    fitted = train_group(recipe, MEMBERS, there, val_there, make_step=watched_step(gpu))
    gpu.assert_near(fitted.model.state_dict(), expected.model.state_dict())


@pytest.mark.parametrize("level", ["batch", "clip"])
@pytest.mark.parametrize("attribution", [*attributions])
def test_a_training_loop_of_ones_own(gpu, attribution, level):
    if level == "clip" and attributions[attribution].uses_partners:
        return
    clips, gradients = clips_with_gaps(), {}
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        head = nn.Sequential(nn.Linear(14, 4), nn.Tanh(), nn.Linear(4, 3)).to(device)
        regularizer = AttributionRegularizer("1:3", Attributor(attribution=attribution, num_points=2), level=level)
        z = {m: e.to(device) for m, e in clips.embeddings.items()}
        value = regularizer.to(device)(lambda z, head=head: head(torch.cat([*z.values()], -1)), z, clips.present)
        value.backward()
        gradients[device] = {name: parameter.grad for name, parameter in head.named_parameters() if "0" in name}
        assert all(gradient.device.type == device for gradient in gradients[device].values())
    if not attributions[attribution].uses_partners:  # they are drawn on the device
        gpu.assert_near(gradients["cuda"], gradients["cpu"])
