"""MMPareto: the step of the paper in float64, and multi-loss where nothing conflicts."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from amr.fusion.balance import mmpareto_gradient, mmpareto_weights
from amr.fusion.methods import methods
from amr.fusion.methods.mmpareto import MMParetoOptions

from ..conftest import make_clips
from .conftest import DIMS, SEEDS, assert_same, batch_of, build, gradients, with_gaps


def slow_step(a, b, gamma):
    """The paper's step from two flat gradients."""
    product = float(a @ b)
    w = 0.5 if product >= 0 else min(max(float((b @ b - a @ b) / ((a - b) @ (a - b))), 0.001), 0.999)
    g = 2 * w * a + 2 * (1 - w) * b
    return gamma * g * max(1.0, float((a + b).norm() / g.norm()))


def opposed(clips):
    """A method whose own classifiers, and nothing else, want the opposite of what the head wants, in float64."""
    method, model = build("mmpareto", clips, options={"gamma": 2.0}, adapter="mlp")
    model.double()
    method.own.double()
    for i, m in enumerate(DIMS):
        layer = method.own.layers[i]
        layer.weight.data = (-1 if m == "audio" else 1) * model.head.classifier.weight[..., 5 * i : 5 * i + 5].detach()
    return method, model


def test_a_step_is_the_paper_s_formula_in_float64():
    clips = with_gaps(make_clips(30))
    method, model = opposed(clips)
    batch = batch_of(clips)
    batch = replace(batch, embeddings={m: e.double() for m, e in batch.embeddings.items()})
    loss, plain = gradients(method, model, batch)
    adjusted = method.adjust(plain)
    z = model.encode(batch)
    joint = cross_entropy(model.head(z, batch.present).movedim(-1, 1), batch.target, reduction="none").mean(-1)
    total = joint
    for i, m in enumerate(DIMS):
        layer, has = method.own.layers[i], batch.present[..., i]
        out = torch.einsum("rbd,rcd->rbc", z[m], layer.weight) + layer.bias[:, None]
        own = (cross_entropy(out.movedim(-1, 1), batch.target, reduction="none") * has).sum(-1) / has.sum(-1)
        total = total + own
        names = [name for name, _ in model.named_parameters() if name.startswith(f"adapters.{m}.")]
        parameters = [model.get_parameter(name) for name in names]
        of_both = [torch.autograd.grad(each.sum(), parameters, retain_graph=True) for each in (joint, own)]
        for run in range(len(SEEDS)):
            a, b = (torch.cat([g[run].flatten() for g in values]) for values in of_both)
            assert (float(a @ b) < 0) == (m == "audio")
            found = torch.cat([adjusted[name][run].flatten() for name in names])
            torch.testing.assert_close(found, slow_step(a, b, 2.0), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(loss, total.detach())
    conflicts = method.epoch_values()
    assert (conflicts["conflict_audio"].tolist(), conflicts["conflict_video"].tolist()) == ([1, 1], [0, 0])
    head = torch.autograd.grad(joint.sum(), list(model.head.parameters()))
    for (name, _), expected in zip(model.head.named_parameters(), head, strict=True):
        torch.testing.assert_close(adjusted[f"head.{name}"], expected)


def test_where_nothing_conflicts_gamma_1_is_multi_loss():
    clips = make_clips(30)
    ours, model = build("mmpareto", clips, options={"gamma": 1.0})
    plain, same = build("multi-loss", clips, options={"own": True})
    for owner in (ours, plain):
        for layer, part in zip(owner.own.layers, model.head.classifier.weight.split(5, dim=-1), strict=True):
            layer.weight.data = part.detach().clone()  # wants what the head wants
    batch = batch_of(clips)
    loss, found = gradients(ours, model, batch)
    expected, naive = gradients(plain, same, batch)
    torch.testing.assert_close(loss, expected)
    assert not any(value.any() for value in ours.epoch_values().values())
    assert_same(ours.adjust(found), naive, rtol=1e-5, atol=1e-7)


def test_by_the_head_s_own_logits_the_head_feels_them_too():
    clips = make_clips(30)
    ours, model = build("mmpareto", clips, options={"own": False})
    plain, same = build("multi-loss", clips)
    batch = batch_of(clips)
    (loss, found), (expected, multi) = gradients(ours, model, batch), gradients(plain, same, batch)
    assert ours.parameters() == []
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(found["head.classifier.weight"], multi["head.classifier.weight"])


def test_swapped_gradients_swap_their_weights_and_the_step_serves_both():
    draws = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 500, 6, generator=draws, dtype=torch.float64)
    weights = mmpareto_weights(a, b)
    torch.testing.assert_close(mmpareto_weights(b, a), weights.flip(0))
    g, conflict = mmpareto_gradient(a, b, gamma=1.0), (a * b).sum(-1) < 0
    assert 100 < int(conflict.sum()) < 400
    inside = ((weights > 0.001) & (weights < 0.999)).all(0)
    assert bool(((g * a).sum(-1) > 0)[inside].all())
    assert bool(((g * b).sum(-1) > 0)[inside].all())
    assert bool((g.norm(dim=-1) >= (a + b).norm(dim=-1) * (1 - 1e-9)).all())
    torch.testing.assert_close(g[~conflict], (a + b)[~conflict])


@pytest.mark.parametrize("b", [[0.0, 0.0], [-3.0, -4.0], [-1e-20, 0.0], [3.0, 4.0]])
def test_zero_equal_and_opposite_gradients_give_finite_steps(b):
    for a, other in (([3.0, 4.0], b), (b, [3.0, 4.0]), (b, b)):
        assert torch.isfinite(mmpareto_gradient(torch.tensor(a), torch.tensor(other))).all()


@pytest.mark.parametrize("factor", [0.3, 0.9, 0.99, 1.0, 1.01, 2.0])
def test_opposite_gradients_give_no_step_of_rounding_noise(factor):
    a = torch.randn(20, 40, generator=torch.Generator().manual_seed(0))
    assert not mmpareto_gradient(a, -factor * a).any()
    nearly = mmpareto_gradient(a, -factor * a + 0.01 * a.roll(1, -1), gamma=1.0)
    length = (a - factor * a + 0.01 * a.roll(1, -1)).norm(dim=-1)
    assert bool((nearly.norm(dim=-1) >= length * (1 - 1e-3)).all())


def test_other_optimizers_get_a_note_and_gamma_0_is_refused():
    assert methods["mmpareto"].notes(MMParetoOptions(), "sgd", 10, ["audio", "video"]) == []
    assert "use sgd" in methods["mmpareto"].notes(MMParetoOptions(), "adamw", 10, ["audio", "video"])[0]
    for gamma in (0.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="gamma must be a finite number above 0"):
            MMParetoOptions(gamma)
