from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from amr.extract.encoders import build_encoder
from amr.extract.encoders.model import ModelEncoder
from amr.fusion.attribution.attributor import Attributor
from amr.fusion.attribution.regularizer import regularization
from amr.fusion.data.clips import Batch
from amr.fusion.end_to_end.media_clips import MediaClips
from amr.fusion.end_to_end.model import EncoderModel, OneRun
from amr.fusion.methods import methods
from amr.fusion.methods.naive import Naive
from amr.fusion.model import FusionModel, ModelShape, predict_shares
from amr.fusion.train.best import Best
from amr.fusion.train.hooks import EndToEndHooks
from amr.fusion.train.recipe import Member, Recipe
from amr.fusion.train.step import OptimizerStep
from amr.fusion.train.trainer import train_group

SPEC = "timm:test_efficientnet,size=32,weights=random"


def network(spec: str = SPEC, name: str = "video") -> nn.Module:
    encoder = build_encoder(spec, name)
    assert isinstance(encoder, ModelEncoder)
    return encoder.network()


def recipe_for(shape: ModelShape, **changes: Any) -> Recipe:
    fields = {"method": methods["naive"], "options": None, "attributor": Attributor(), "epochs": 1, "batch_size": 4}
    fields |= {"optimizer": "sgd", "lr": 0.1, "weight_decay": 0.0, "amr_optimizer": "separate", "select": "accuracy"}
    return Recipe(shape, **{**fields, **changes})


def two_encoders() -> tuple[EncoderModel, Batch]:
    shape = ModelShape.of({"audio": 256, "video": 256}, 3, head="concat", hidden=0, adapter="none", adapter_dim=1)
    model = EncoderModel(shape, [0], {m: network(f"{SPEC},seed={i}") for i, m in enumerate(shape.embed_dims)})
    draws = torch.Generator().manual_seed(0)
    x = {m: torch.randn(1, 6, 2, 3, 32, 32, generator=draws).half() for m in shape.embed_dims}
    return model, Batch(x, torch.ones(1, 6, 2, dtype=torch.bool), torch.arange(6)[None] % 3)


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        (SPEC, (4, 2, 3, 32, 32)),
        ("timm:test_vit,size=32,weights=random", (2, 1, 3, 32, 32)),
        pytest.param(  # has buffers that are in no state dict
            "timm:test_maxvit,size=64,weights=random",
            (2, 1, 3, 64, 64),
            marks=pytest.mark.skipif("test_maxvit" not in timm.list_models(), reason="this timm has no test_maxvit"),
        ),
    ],
)
def test_a_network_with_a_run_axis_agrees_with_the_network(spec, shape):
    """Same outputs, gradients, statistics after a step, and evaluation."""
    plain = network(spec).requires_grad_(True)
    ours = OneRun(network(spec))
    x = torch.randn(shape).half()
    plain.train()
    ours.train()
    for _ in range(2):
        expected, got = plain(x.float()), ours(x[None])
        assert torch.equal(got[0], expected)
        gradients = torch.autograd.grad(expected.square().sum(), list(plain.parameters()))
        with_axis = torch.autograd.grad(got.square().sum(), list(ours.parameters()))
        for (name, _), g, axis in zip(plain.named_parameters(), gradients, with_axis, strict=True):
            assert torch.equal(axis[0], g), name
    weights = ours.weights()
    for name, value in plain.state_dict().items():
        assert torch.equal(weights[name], value), name
    plain.eval()
    ours.eval()
    assert torch.equal(ours(x[None])[0], plain(x.float()))
    for name, value in plain.state_dict().items():
        assert torch.equal(ours.weights()[name], value), name


def test_its_weights_are_copies():
    original = network()
    before = {name: value.clone() for name, value in original.state_dict().items()}
    ours = OneRun(original)
    with torch.no_grad():
        for value in ours.state_dict().values():
            value.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in original.state_dict().items())
    assert all(value.shape[0] == 1 for value in ours.state_dict().values())


def test_a_batch_of_one_clip_is_trained_with_the_running_statistics():
    """torch refuses to take the variance of one value: 32 pixels become one after the last stride."""
    ours = OneRun(network())
    x = torch.randn(1, 1, 1, 3, 32, 32)
    with pytest.raises(ValueError, match="more than 1 value"):
        network().train()(x[0])
    assert torch.isfinite(ours.train()(x)).all()
    with pytest.raises(RuntimeError):
        ours(torch.randn(1, 2, 1, 5, 32, 32))


def test_absent_clips_have_no_encoding_and_do_not_enter_the_statistics():
    model, batch = two_encoders()
    present = batch.present.clone()
    present[0, ::2, 0] = False
    present[0, :, 1] = False
    model.train()
    z = model.encode(Batch(batch.embeddings, present, batch.target))
    other, _ = two_encoders()
    expected = other.train().adapters["audio"](batch.embeddings["audio"][:, 1::2])
    assert torch.equal(z["audio"][:, 1::2], expected)
    assert not z["audio"][:, ::2].any()
    assert not z["video"].any()
    for name, value in other.adapters["audio"].state_dict().items():
        assert torch.equal(model.adapters["audio"].state_dict()[name], value), name
    untouched, _ = two_encoders()
    for name, value in untouched.adapters["video"].state_dict().items():
        assert torch.equal(model.adapters["video"].state_dict()[name], value), name


@pytest.mark.parametrize("head", ["concat", "film"])
def test_shares_by_permutation_encode_each_clip_once(head, monkeypatch):
    """A linear head's parts are gathered; others see each permuted z."""
    shape = ModelShape.of({"audio": 256, "video": 256}, 3, head=head, hidden=8, adapter="none", adapter_dim=1)
    model = EncoderModel(shape, [0], {m: network(f"{SPEC},seed={i}") for i, m in enumerate(shape.embed_dims)}).eval()
    draws = torch.Generator().manual_seed(0)
    x = {m: torch.randn(9, 2, 3, 32, 32, generator=draws).half() for m in shape.embed_dims}
    present = torch.ones(9, 2, dtype=torch.bool)
    present[::4, 1] = False
    clips = MediaClips(x, present, torch.arange(9) % 3, dict.fromkeys(x, torch.arange(9)))
    sizes = []
    monkeypatch.setattr(OneRun, "forward", lambda self, x, f=OneRun.forward: sizes.append(x.shape[1]) or f(self, x))
    attributor = Attributor(attribution="permutation")
    once = predict_shares(model, clips, attributor)
    assert sizes == [9, 6]
    monkeypatch.setattr(EncoderModel, "encoded", FusionModel.encoded)
    for ours, theirs in zip(once, predict_shares(model, clips, attributor), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def encoder_state(model: EncoderModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.named_parameters() if name.startswith("adapters.")}


@pytest.mark.parametrize("attribution", ["grad_x_input", "permutation"])
def test_no_encoder_parameter_has_a_gradient_from_the_regularizer(attribution):
    model, batch = two_encoders()
    z = model.train().encode(batch)
    assert all(value.requires_grad for value in z.values())
    attributor = Attributor(attribution=attribution)
    _, share, counted = attributor.shares(model.head, z, batch.present, create_graph=True)
    distance = regularization(share, counted, torch.tensor([[0.9, 0.1]]), of_sums=attributor.uses_partners)
    assert distance.item() > 0
    encoders = [value for name, value in model.named_parameters() if name.startswith("adapters.")]
    assert all(g is None for g in torch.autograd.grad(distance.sum(), encoders, retain_graph=True, allow_unused=True))
    head = torch.autograd.grad(distance.sum(), list(model.head.parameters()), allow_unused=True)
    assert any(g is not None and bool(g.any()) for g in head)


class NoTask(Naive):
    """Naive training with a loss of 0, so that only R trains."""

    def joint_loss(self, logits, batch):
        return 0 * logits.sum((1, 2))


def test_without_a_task_the_regularizer_moves_only_the_head():
    model, batch = two_encoders()
    step = OptimizerStep(
        recipe_for(model.shape), [Member(0, (0.9, 0.1), 1.0)], model, lambda *_: None, NoTask(None, None)
    )
    owned = [p for group in step.amr_optimizer.param_groups for p in group["params"]]
    assert [id(p) for p in owned] == [id(p) for p in model.head.parameters()]
    encoders, head = encoder_state(model), [p.clone() for p in model.head.parameters()]
    model.train()
    for _ in range(3):
        assert float(step(batch)[1]) > 0
    for name, value in encoder_state(model).items():
        assert torch.equal(value, encoders[name]), name
    assert not all(torch.equal(a, b) for a, b in zip(head, model.head.parameters(), strict=True))


def test_the_best_epoch_is_restored_with_its_statistics():
    """Counters are integers and statistics are buffers: both are restored, too."""
    model, batch = two_encoders()
    best = Best(model, "accuracy", torch.zeros(1))
    states = []
    for epoch, accuracy in enumerate((0.5, 0.9, 0.7), start=1):
        model.train().encode(batch)
        states.append({name: value.clone() for name, value in model.state_dict().items()})
        record = {"val_accuracy": accuracy, "val_loss": 1.0, "val_regularization": 0.0}
        best.update(epoch, {k: torch.tensor([v]) for k, v in record.items()}, torch.ones(1, dtype=torch.bool))
    best.restore(model)
    for name, value in model.state_dict().items():
        assert torch.equal(value, states[1][name]), name
        assert value.dtype == states[1][name].dtype
    (counter, *_) = [name for name in states[0] if name.endswith("num_batches_tracked")]
    assert [int(state[counter]) for state in states] == [1, 2, 3]
    assert model.state_dict()[counter].dtype == torch.int64


def test_pieces_of_video_are_trained():
    spec = "torchvision:mc3_18,frames=4,weights=random"
    shape = ModelShape.of({"video": 512}, 2, head="concat", hidden=0, adapter="none", adapter_dim=1)
    tensors = {"video": torch.randn(4, 1, 3, 4, 16, 16).half()}
    clips = MediaClips(tensors, torch.ones(4, 1, dtype=torch.bool), torch.arange(4) % 2, {"video": torch.arange(4)})
    recipe = recipe_for(shape, method=methods["unimodal"], lr=1e-3)
    hooks = EndToEndHooks(build=lambda s, seeds: EncoderModel(s, seeds, {"video": network(spec)}))
    fitted = train_group(recipe, [Member(0)], clips, clips, hooks=hooks)
    before = OneRun(network(spec)).state_dict()
    moved = {n: not torch.equal(v, before[n]) for n, v in fitted.model.adapters["video"].state_dict().items()}
    assert all(moved.values()), [name for name, value in moved.items() if not value]
