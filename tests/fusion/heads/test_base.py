"""Requirements that every head must meet."""

import pytest
import torch

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.attribution.share import mean_share
from amr.fusion.data.clips import Batch
from amr.fusion.heads import HeadShape, head_options, heads
from amr.fusion.model import FusionModel, ModelShape, predict_shares
from amr.fusion.run_axis.seeds import Draws
from amr.fusion.train.recipe import Member
from amr.fusion.train.trainer import train_group

from ..conftest import make_clips, make_recipe
from .conftest import DIMS, NAMES, NUM_CLASSES, all_present, build, make_z

OUTPUTS = ("probability", "logit", "centered")


def share_loss(head, z, present, output="probability"):
    """A loss on shares, like the regularizer."""
    _, share, counted = Attributor(output).shares(head, z, present, create_graph=True)
    weights = torch.arange(1.0, share.shape[-1] + 1, dtype=share.dtype)
    return ((share**2 * weights).sum(-1) * counted).sum()


def test_every_listed_head_is_tested():
    assert {
        "concat",
        "sum",
        "gated",
        "film",
        "bilinear",
        "attention",
        "cosine",
        "tensor",
        "multiplicative",
        "cross-attention",
    } <= set(NAMES)
    assert all(head.summary for _, head in heads.items())


@pytest.mark.parametrize("hidden", [0, 8])
@pytest.mark.parametrize("num_modalities", [1, 2, 3, 6])
@pytest.mark.parametrize("name", NAMES)
def test_a_run_in_a_group_equals_the_same_run_by_itself(name, num_modalities, hidden):
    shape = HeadShape(DIMS[num_modalities], NUM_CLASSES, hidden)
    group = heads[name](shape, Draws([0, 3, 0]))
    single = heads[name](shape, Draws([3]))
    for (key, value), (_, expected) in zip(group.state_dict().items(), single.state_dict().items(), strict=True):
        assert torch.equal(value[1], expected[0]), key
        assert torch.equal(value[0], value[2]), key
    z = make_z(num_modalities, num_runs=3)
    present = all_present(z)
    features = group.double().fuse(z, present)
    assert features.shape == (3, 7, group.num_features)
    logits = group(z, present)
    assert logits.shape == (3, 7, NUM_CLASSES)
    torch.testing.assert_close(logits[1:2], single.double()({m: v[1:2] for m, v in z.items()}, present[1:2]))


@pytest.mark.parametrize("num_modalities", [1, 2, 3, 6])
@pytest.mark.parametrize("name", NAMES)
def test_clips_do_not_affect_each_other(name, num_modalities):
    head, z = build(name, num_modalities), make_z(num_modalities)
    present = all_present(z)
    order = torch.randperm(7)
    permuted = head({m: v[:, order] for m, v in z.items()}, present)
    torch.testing.assert_close(permuted, head(z, present)[:, order])


@pytest.mark.parametrize("hidden", [0, 8])
@pytest.mark.parametrize("num_modalities", [1, 2, 3, 6])
@pytest.mark.parametrize("name", [name for name in NAMES if heads[name].closed_form])
def test_the_input_gradient_equals_that_of_autograd(name, num_modalities, hidden):
    head, z = build(name, num_modalities, hidden=hidden), make_z(num_modalities)
    present = all_present(z)
    cotangent = torch.randn(2, 7, NUM_CLASSES, dtype=torch.float64)
    closed_form = head.input_gradient(head.fuse(z, present), cotangent)
    inputs = {m: v.clone().requires_grad_() for m, v in z.items()}
    expected = torch.autograd.grad(head(inputs, present), list(inputs.values()), cotangent)
    for m, gradient in zip(z, expected, strict=True):
        torch.testing.assert_close(closed_form[m], gradient, rtol=1e-9, atol=1e-12)
    parameters = list(head.parameters())
    for output in OUTPUTS:
        ours, reference = (
            torch.autograd.grad(share_loss(function, z, present, output), parameters, materialize_grads=True)
            for function in (head, lambda z, present: head(z, present))  # a plain function has no closed form
        )
        for left, right in zip(ours, reference, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_of_a_loss_on_shares_matches_finite_differences(name, output):
    head, z = build(name, 3, seeds=(2,)), make_z(3, num_runs=1)
    present = all_present(z)
    parameters = list(head.parameters())
    gradients = torch.autograd.grad(share_loss(head, z, present, output), parameters, materialize_grads=True)
    draws = torch.Generator().manual_seed(0)
    direction = [torch.randn(p.shape, generator=draws, dtype=p.dtype) for p in parameters]
    expected = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))
    step, values = 1e-6, []
    for sign in (1, -1):
        with torch.no_grad():
            for parameter, d in zip(parameters, direction, strict=True):
                parameter += sign * step * d
        values.append(share_loss(head, z, present, output).item())
        with torch.no_grad():
            for parameter, d in zip(parameters, direction, strict=True):
                parameter -= sign * step * d
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(expected, rel=1e-4, abs=1e-7)
    assert abs(expected) > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_an_absent_modality_stays_absent_after_its_adapter(name):
    shape = ModelShape.of(DIMS[2], NUM_CLASSES, head=name, hidden=8, adapter="linear", adapter_dim=5)
    model = FusionModel(shape, [0, 3]).double()
    embeddings, target = make_z(2), torch.zeros(2, 7, dtype=torch.long)
    present = all_present(embeddings)
    present[:, :3, 1] = False
    logits = model(Batch(embeddings, present, target))
    other = embeddings | {"video": embeddings["video"].clone()}
    other["video"][:, :3] = 1e6
    assert torch.equal(model(Batch(other, present, target)), logits)
    changed = model(Batch(other, all_present(embeddings), target))
    assert not torch.isclose(changed[:, :3], logits[:, :3]).all(-1).any()


@pytest.mark.parametrize("num_modalities", [1, 2, 6])
@pytest.mark.parametrize("all_valid", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_zeros_and_clips_without_modalities_have_finite_logits_and_gradients(name, all_valid, num_modalities):
    head = heads[name](HeadShape(DIMS[num_modalities], NUM_CLASSES, 8), Draws([0, 1]))
    z = {m: torch.zeros_like(v).float() for m, v in make_z(num_modalities).items()}
    present = torch.full_like(all_present(z), all_valid)
    parameters = list(head.parameters())
    logits = head(z, present)
    plain = torch.autograd.grad(logits.square().sum(), parameters, materialize_grads=True)
    pulled = torch.autograd.grad(share_loss(head, z, present), parameters, materialize_grads=True)
    assert torch.isfinite(logits).all()
    assert all(torch.isfinite(g).all() for g in (*plain, *pulled))


@pytest.mark.parametrize("num_modalities", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_every_head_learns_and_reaches_even_shares(name, num_modalities):
    dims = {m: dim + 3 for m, dim in DIMS[num_modalities].items()}
    train, val = make_clips(240, dims), make_clips(90, dims, seed=1)
    even = (1 / num_modalities,) * num_modalities
    epochs = 12 if name == "cross-attention" else 25  # it has a layer for each pair
    recipe = make_recipe(train, head=name, hidden=16, epochs=epochs, select="last", lr=5e-3)
    fitted = train_group(recipe, [Member(0), Member(0, even, 2.0)], train, val)
    accuracy = fitted.history["val_accuracy"][-1]
    assert (accuracy > 0.85).all()
    _, share, counted = predict_shares(fitted.model, train, Attributor())
    assert counted.all()
    shares = mean_share(share, counted)  # (run, modalities)
    distance = (shares - 1 / num_modalities).abs().sum(-1)
    assert distance[1] < 0.06
    assert distance[1] < distance[0] or distance[0] < 0.06  # without AMR, too


def test_hidden_is_the_width():
    sizes = {"cross-attention": 256, "concat": 8, "sum": 8, "cosine": 8, "tensor": 33**2, "multiplicative": 8 + 16**2}
    for name in NAMES:
        assert build(name, hidden=12).num_features == (24 if name in ("sum", "cosine", "cross-attention") else 12)
        assert build(name, hidden=0).num_features == sizes.get(name, 128)


def test_a_condition_is_refused_by_heads_that_have_none():
    for name in NAMES:
        if name != "film":
            with pytest.raises(ValueError, match="--condition must be left out"):
                head_options(name, (), "audio")
        assert head_options(name, ()) == heads[name].Options()


@pytest.mark.parametrize(("name", "hidden"), [("concat", 0), ("sum", 0), ("sum", 8), ("cosine", 0), ("cosine", 8)])
def test_scaled_modalities_scale_their_parts_of_the_logits(name, hidden):
    head, z = build(name, 3, hidden=hidden), make_z(3)
    present = all_present(z)
    before = head.modality_logits({m: torch.zeros_like(x) for m, x in z.items()}), head.modality_logits(z)
    logits = head(z, present)
    factors = dict(zip(z, (2.0, 0.0, 0.5), strict=True))
    assert head.scale_modalities([*factors.values()])
    if name == "sum" and hidden:  # the bias of the hidden layer is part of h(z)
        bias = {m: head.classifiers[i].bias.unsqueeze(1) for i, m in enumerate(z)}
    else:
        bias = before[0]
    change = sum((factors[m] - 1) * (before[1][m] - bias[m]) for m in z)
    torch.testing.assert_close(head(z, present), logits + change)


@pytest.mark.parametrize("name", NAMES)
def test_heads_whose_logits_are_no_sum_cannot_scale_modalities(name):
    head = build(name, 2)
    before = {key: value.clone() for key, value in head.state_dict().items()}
    assert head.scale_modalities([0.5, 1.0]) == (head.modality_logits(make_z(2)) is not None)
    if name != "sum":
        assert all(torch.equal(value, before[key]) for key, value in head.state_dict().items())
