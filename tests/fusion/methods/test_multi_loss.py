"""Multi-loss: weight 0 is naive training, and for a linear head the losses are those of its parts."""

import torch
from torch.nn import functional

from amr.fusion.train.recipe import Member

from ..conftest import make_clips
from .conftest import assert_same, batch_of, build, fit_group, gradients, with_gaps


def test_weight_0_is_naive_training_bit_for_bit():
    train, val = make_clips(), make_clips(40, seed=1)
    ours, naive = (
        fit_group(name, [Member(0)], train, val, o) for name, o in (("multi-loss", {"weight": 0.0}), ("naive", None))
    )
    assert_same(ours.model.run_state(0), naive.model.run_state(0), rtol=0, atol=0)


def test_of_a_linear_head_it_is_the_paper_s_formula_in_float64():
    train = with_gaps(make_clips(30))
    method, model = build("multi-loss", train=train, options={"weight": 0.5}, adapter="none")
    batch = batch_of(train)
    loss, _ = gradients(method, model, batch)
    z = model.encode(batch)
    weights, bias = (model.head.classifier.weight.double(), model.head.classifier.bias.double())
    widths = [value.shape[-1] for value in z.values()]
    expected = functional.cross_entropy(
        model.head(z, batch.present).double().movedim(-1, 1), batch.target, reduction="none"
    ).mean(-1)
    for i, (part, value) in enumerate(zip(weights.split(widths, dim=-1), z.values(), strict=True)):
        out = torch.einsum("rbd,rcd->rbc", value.double().expand(len(part), -1, -1), part) + bias[:, None] / len(z)
        each = functional.cross_entropy(out.movedim(-1, 1), batch.target, reduction="none")
        has = batch.present[..., i]
        expected = expected + 0.5 * (each * has).sum(-1) / has.sum(-1)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)


def test_own_classifiers_reach_adapters_and_leave_the_head_to_the_joint_loss():
    train = make_clips(30)
    batch = batch_of(train)
    method, model = build("multi-loss", train=train, options={"own": True})
    plain, same = build("naive", train=train)
    (_, ours), (_, naive) = gradients(method, model, batch), gradients(plain, same, batch)
    for name, value in ours.items():
        assert torch.equal(value, naive[name]) == name.startswith("head."), name
    own = torch.autograd.grad(method.loss(model, batch, model.encode(batch)).sum(), method.parameters())
    assert all(value.abs().sum() > 0 for value in own)
