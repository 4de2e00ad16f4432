import copy
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch.nn.functional import cross_entropy

from amr.fusion.balance import gradient_blending_weights, unimodal_logits
from amr.fusion.data.clips import Clips
from amr.fusion.methods.gradient_blending import BlendingOptions, GradientBlending, hold_out, mean_losses
from amr.fusion.model import predict_logits
from amr.fusion.run_axis.seeds import generator
from amr.fusion.train.recipe import Member
from amr.fusion.train.trainer import train_group

from ..conftest import make_clips, make_recipe
from .conftest import HALF, SEEDS, assert_same, batch_of, build, fit_group, gradients, layers, with_gaps

NAMES = ("audio", "video")


def slow_losses(modules, embeddings, present, target):
    """L_k of a linear concat head: first of W_m z_m + b / 2 over the clips that have m, then of the joint logits."""
    unimodal, joint = {"audio": [], "video": []}, []
    for clip in range(len(target)):
        logits = modules["classifier"].bias
        for i, m in enumerate(NAMES):
            if present[clip, i]:
                own = modules["classifier"].weight[:, 5 * i : 5 * i + 5] @ modules[m](embeddings[m][clip])
                unimodal[m].append(cross_entropy(own + modules["classifier"].bias / 2, target[clip]))
                logits = logits + own
        joint.append(cross_entropy(logits, target[clip]))
    return [torch.stack(unimodal[m]).mean() for m in NAMES] + [torch.stack(joint).mean()]


def test_the_loss_is_the_weighted_sum():
    clips = with_gaps(make_clips(30))
    method, model = build("gradient-blending", clips)
    method.loss_weights = torch.tensor([[0.2, 0.6], [0.5, 0.1], [0.3, 0.3]])
    batch = batch_of(clips)
    loss = method.loss(model, batch, model.encode(batch))
    for run in range(len(SEEDS)):
        embeddings = {m: e[run] for m, e in batch.embeddings.items()}
        each = slow_losses(layers(model, run), embeddings, batch.present[run], batch.target[run])
        expected = sum(float(w) * value for w, value in zip(method.loss_weights[:, run], each, strict=True))
        torch.testing.assert_close(loss[run], expected)


def test_weights_are_those_of_a_loop_that_trains_a_copy_on_each_loss():
    clips = with_gaps(make_clips(40))
    method, model = build("gradient-blending", clips, options={"super_epoch": 2}, seeds=(3,), lr=0.02)
    before = model.run_state(0)
    method.begin_epoch(1)
    assert_same(before, model.run_state(0))
    fit_clips, held_out = hold_out(clips, 0.2)

    def measured(modules):
        with torch.no_grad():
            return [slow_losses(modules, each.embeddings, each.present, each.target) for each in (fit_clips, held_out)]

    start, weights = layers(model, 0), []
    train, val = measured(start)
    for k in range(3):
        modules = copy.deepcopy(start)
        parameters = [p for module in modules.values() for p in module.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=0.02, weight_decay=1e-2)
        draws = generator(3, "rehearsal")
        for _ in range(2):
            for rows in torch.randperm(len(fit_clips), generator=draws).split(32):
                batch = fit_clips.take(rows)
                optimizer.zero_grad()
                loss = slow_losses(modules, batch.embeddings, batch.present, batch.target)[k]
                for parameter, g in zip(
                    parameters, torch.autograd.grad(loss, parameters, materialize_grads=True), strict=True
                ):
                    parameter.grad = g
                optimizer.step()
        train_after, val_after = measured(modules)
        generalization = max(float(val[k] - val_after[k]), 0)
        overfitting = float((val_after[k] - train_after[k]) - (val[k] - train[k]))
        weights.append(generalization / max(overfitting**2, 1e-8))
    expected = torch.tensor(weights) / sum(weights)
    assert expected.max() < 1
    torch.testing.assert_close(method.loss_weights[:, 0], expected, rtol=2e-2, atol=1e-3)


def test_the_weights_of_given_measurements():
    inf = torch.inf
    generalization = torch.tensor([[0.2, -1.0, 0.1], [0.1, -0.5, 0.0], [-0.3, 0.0, 0.0]])
    overfitting = torch.tensor([[0.1, 0.1, 0.0], [-0.2, 0.1, 0.0], [0.1, 0.1, inf]])
    weights = gradient_blending_weights(generalization, overfitting)
    first = torch.tensor([0.2 / 0.01, 0.1 / 0.04, 0.0])
    torch.testing.assert_close(weights[:, 0], first / first.sum())
    torch.testing.assert_close(weights[:, 1], torch.full((3,), 1 / 3))  # nothing generalizes: even
    torch.testing.assert_close(weights[:, 2], torch.tensor([1.0, 0.0, 0.0]))  # nothing overfits: floored, finite


def test_clips_held_out_come_from_train_and_are_the_same_for_all_runs():
    clips = make_clips(40)
    fit_clips, held_out = hold_out(clips, 0.2)
    assert (len(fit_clips), len(held_out)) == (32, 8)
    rows = torch.cat([fit_clips.embeddings["audio"], held_out.embeddings["audio"]])
    assert torch.equal(rows.sort(0).values, clips.embeddings["audio"].sort(0).values)
    assert torch.equal(hold_out(clips, 0.2)[1].target, held_out.target)
    assert [len(clips) for clips in hold_out(make_clips(2), 0.01)] == [1, 1]
    assert [len(clips) for clips in hold_out(make_clips(2), 0.99)] == [1, 1]
    with pytest.raises(ValueError, match="at least two train clips"):
        hold_out(make_clips(1), 0.2)


def test_offline_measures_once_and_online_before_each_super_epoch_on_clips_it_never_trains_on():
    train, val = make_clips(), make_clips(40, seed=1)
    settings = {"epochs": 6, "lr": 0.02}
    offline = fit_group("gradient-blending", [Member(0)], train, val, {"super_epoch": 2}, **settings)
    online = fit_group("gradient-blending", [Member(0)], train, val, {"super_epoch": 2, "mode": "online"}, **settings)
    for fitted, blocks in ((offline, [6]), (online, [2, 2, 2])):
        weights = torch.stack([fitted.history[f"weight_{name}"][:, 0] for name in (*NAMES, "joint")], -1)
        torch.testing.assert_close(weights.sum(-1), torch.ones(6))
        by_block = weights.split(blocks)
        assert all(torch.equal(block, block[:1].expand_as(block)) for block in by_block)
        assert all(not torch.equal(a[0], b[0]) for a, b in pairwise(by_block))
    assert offline.history["weight_audio"][0] == online.history["weight_audio"][0]
    method, _ = build("gradient-blending", train, val, options={"mode": "online"})
    fit_clips, _ = hold_out(train, 0.2)
    assert torch.equal(method.train_clips().target, fit_clips.target)
    assert len(build("gradient-blending", train, val)[0].train_clips()) == len(train)


def test_by_default_offline_measures_over_all_epochs_and_online_over_ten():
    clips = make_clips(30)
    default, explicit = (build("gradient-blending", clips, options=o, epochs=3)[0] for o in (None, {"super_epoch": 3}))
    for method in (default, explicit):
        method.begin_epoch(1)
    assert torch.equal(default.loss_weights, explicit.loss_weights)
    assert build("gradient-blending", clips, options={"mode": "online"}, epochs=30)[0].super_epoch == 10
    assert build("gradient-blending", clips, options={"mode": "online", "super_epoch": 4})[0].super_epoch == 4


def test_own_classifiers_are_measured_on_copies_and_reach_adapters_alone():
    clips = with_gaps(make_clips(40))
    method, model = build("gradient-blending", clips, options={"own": True, "super_epoch": 2}, lr=0.02)
    before = [parameter.clone() for parameter in method.parameters()]
    method.begin_epoch(1)
    assert all(torch.equal(a, b) for a, b in zip(before, method.parameters(), strict=True))
    torch.testing.assert_close(method.loss_weights.sum(0), torch.ones(2))
    other, _ = build("gradient-blending", clips, options={"super_epoch": 2}, lr=0.02)
    other.begin_epoch(1)
    assert not torch.allclose(method.loss_weights, other.loss_weights, atol=1e-3)
    method.loss_weights = torch.tensor([[0.3, 0.6], [0.7, 0.4], [0.0, 0.0]])
    batch = batch_of(clips)
    loss, by_name = gradients(method, model, batch)
    for name, g in by_name.items():
        assert (g.abs().sum() > 0) == name.startswith("adapters."), name
    for run in range(len(SEEDS)):
        modules, expected = layers(model, run), 0.0
        for i, m in enumerate(NAMES):
            has, own = batch.present[run, :, i], method.own.layers[i]
            z = modules[m](batch.embeddings[m][run][has]).double()
            out = z @ own.weight[run].double().T + own.bias[run].double()
            expected += float(method.loss_weights[i, run]) * cross_entropy(out, batch.target[run][has])
        torch.testing.assert_close(loss[run].double(), expected.detach(), rtol=1e-6, atol=0)


def test_own_classifiers_in_a_group_are_those_of_a_run_alone():
    train, val = with_gaps(make_clips()), make_clips(40, seed=1)
    options = {"own": True, "super_epoch": 2, "mode": "online"}
    group = fit_group("gradient-blending", [Member(0), Member(3, HALF, 1.0)], train, val, options)
    single = fit_group("gradient-blending", [Member(3, HALF, 1.0)], train, val, options)
    assert_same(group.model.run_state(1), single.model.run_state(0), rtol=1e-3, atol=1e-4)


def test_rehearsals_have_the_learning_rates_of_their_epochs():
    """A learning rate of 0 from the second epoch on leaves what one epoch gives; online, nothing after it."""
    options = {"mode": "online", "super_epoch": 2}
    one, _ = build("gradient-blending", options={**options, "super_epoch": 1})
    method, _ = build("gradient-blending", options=options, lr_step=(1, 0.0), epochs=4)
    torch.testing.assert_close(method.measure(1), one.measure(1))
    even = torch.full_like(method.measure(3), 1 / 3)
    torch.testing.assert_close(method.measure(3), even)


def test_with_weights_of_classes_mean_losses_are_weighted_means_over_all_clips(monkeypatch):
    clips = with_gaps(make_clips(30))
    method, model = build("gradient-blending", clips)
    weights = torch.tensor([0.2, 3.0, 1.0])
    monkeypatch.setattr(Clips, "chunks", lambda self, num_runs: range(0, len(self), 7))
    found = mean_losses(method.context.task.weighted(weights), None, model, clips)
    batch = batch_of(clips)
    z = model.encode(batch)
    parts = [*unimodal_logits(model.head, z, batch.present), model.head(z, batch.present)]
    for run in range(len(SEEDS)):
        for k, logits in enumerate(parts):
            has = batch.present[run, :, k] if k < 2 else torch.ones(30, dtype=torch.bool)
            expected = cross_entropy(logits[run, has], batch.target[run, has], weight=weights)
            torch.testing.assert_close(found[k, run], expected)


def test_weights_do_not_depend_on_val():
    train = make_clips()
    fits = [
        fit_group("gradient-blending", [Member(0)], train, make_clips(40, seed=seed), {"super_epoch": 2})
        for seed in (1, 2)
    ]
    assert torch.equal(fits[0].history["weight_audio"], fits[1].history["weight_audio"])


def test_weight_one_on_the_joint_loss_is_naive_training():
    train, val = make_clips(), make_clips(40, seed=1)
    naive = fit_group("naive", [Member(0)], train, val)

    class Joint(GradientBlending):
        def measure(self, epoch):
            return torch.tensor([[0.0], [0.0], [1.0]])

    recipe = replace(make_recipe(train, adapter="linear", method="gradient-blending"), method=Joint)
    blended = train_group(recipe, [Member(0)], train, val)
    torch.testing.assert_close(predict_logits(blended.model, val), predict_logits(naive.model, val))


@pytest.mark.parametrize("ratio", [None, HALF])
def test_weights_differ_by_run_and_do_not_depend_on_amr(ratio):
    train, val = make_clips(), make_clips(40, seed=1)
    members = [Member(0, ratio, 1.0), Member(3, ratio, 1.0)]
    group = fit_group("gradient-blending", members, train, val, {"super_epoch": 2})
    plain = fit_group("gradient-blending", [Member(0), Member(3)], train, val, {"super_epoch": 2})
    weights = group.history["weight_video"]
    assert weights[0, 0] != weights[0, 1]
    torch.testing.assert_close(weights, plain.history["weight_video"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "sometimes"}, "mode must be offline or online, got 'sometimes'"),
        ({"super_epoch": -1}, "super_epoch must be 0 or more"),
        ({"held_out": 0.0}, "held_out must be above 0"),
        ({"held_out": float("nan")}, "held_out must be above 0"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        BlendingOptions(**options)
