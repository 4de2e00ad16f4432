"""ReconBoost: its losses are the paper's, and what is frozen does not move."""

import pytest
import torch
from torch.nn.functional import cross_entropy, mse_loss

from amr.fusion.methods.reconboost import ReconBoostOptions
from amr.fusion.train.recipe import Member

from ..conftest import make_clips
from .conftest import HALF, SEEDS, assert_same, batch_of, build, fit_group, gradients, with_gaps


@pytest.mark.parametrize("learner", [0, 1])
def test_of_two_modalities_the_loss_is_the_paper_s_in_float64(learner):
    clips = with_gaps(make_clips(30))
    options = {"alpha": 0.7, "w1": 4.0, "w2": 1.5}
    method, model = build("reconboost", clips, clips, options=options, head="sum", epochs=10)
    method.begin_epoch(1 if learner == 0 else 3)
    assert (method.learner, method.previous) == (learner, None if learner == 0 else 0)
    batch = batch_of(clips)
    z = model.encode(batch)
    loss, by_name = gradients(method, model, batch)
    for run in range(len(SEEDS)):
        layers = model.head.classifiers
        f = [
            v[run].double() @ layer.weight[run].double().T + layer.bias[run].double()
            for v, layer in zip(z.values(), layers, strict=True)
        ]
        y, has = batch.target[run], batch.present[run]
        mine, other = f[learner], f[1 - learner].detach()
        q = other.softmax(-1).gather(-1, y[:, None])[:, 0]
        values = cross_entropy(mine, y, reduction="none") * (4.0 - 1.5 * q) / 3
        expected = values[has[:, learner]].mean()
        if learner == 1:
            both = has.all(-1)
            expected = expected + 0.7 * mse_loss(mine[both].softmax(-1), other[both].softmax(-1))
        torch.testing.assert_close(loss[run].double(), expected, rtol=1e-5, atol=1e-6)
        (g,) = torch.autograd.grad(expected, layers[learner].weight)
        torch.testing.assert_close(by_name[f"head.classifiers.{learner}.weight"][run], g[run], rtol=1e-4, atol=1e-6)


def test_the_alignment_has_a_gradient():
    clips = make_clips(30)
    found = []
    for alpha in (0.0, 5.0):
        method, model = build("reconboost", clips, clips, options={"alpha": alpha}, head="sum")
        method.begin_epoch(3)
        found.append(gradients(method, model, batch_of(clips))[1]["head.classifiers.1.weight"])
    assert not torch.allclose(*found, rtol=1e-3)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_what_is_frozen_does_not_move(optimizer):
    """After a stage of audio alone, all of video is at its first weights, also where all learned in between."""
    train, none = make_clips(64), make_clips(0)
    settings = {"optimizer": optimizer, "adapter": "mlp", "hidden": 4, "lr": 0.1}
    first = build("reconboost", train, none, seeds=(0,), head="sum", adapter="mlp", hidden=4)[1].run_state(0)
    states = [
        fit_group("reconboost", [Member(0, HALF, 1.0)], train, none, {"stage_epochs": 1}, epochs=n, **settings)
        for n in (1, 2, 3)
    ]
    one, two, three = (fitted.model.run_state(0) for fitted in states)
    for name, value in first.items():
        of_audio = name.startswith(("adapters.audio.", "head.classifiers.0.", "head.hidden_layers.0."))
        assert torch.equal(one[name], value) != of_audio, name
        assert torch.equal(three[name], two[name]) == of_audio, name
        assert not torch.equal(two[name], one[name]), name


def test_stages_fit_into_a_short_training_and_are_the_source_s_in_a_long_one():
    stages = {}
    for epochs in (1, 10, 20, 100):
        method, _ = build("reconboost", head="sum", epochs=epochs)
        stages[epochs] = method.stage_epochs
    assert stages == {1: 1, 10: 1, 20: 2, 100: 4}
    method, _ = build("reconboost", head="sum", epochs=10)
    learners = []
    for epoch in range(1, 7):
        method.begin_epoch(epoch)
        learners.append((method.learner, method.previous))
    assert learners == [(0, None), (None, None), (1, 0), (None, 0), (0, 1), (None, 1)]
    method, _ = build("reconboost", head="sum", epochs=10, options={"rectify": False, "stage_epochs": 2})
    learners = []
    for epoch in range(1, 6):
        method.begin_epoch(epoch)
        learners.append(method.learner)
    assert learners == [0, 0, 1, 1, 0]


def test_a_stage_of_all_is_naive_training_on_the_sum_head():
    clips = with_gaps(make_clips(30))
    batch = batch_of(clips)
    method, model = build("reconboost", clips, clips, head="sum")
    plain, same = build("naive", clips, clips, head="sum")
    method.begin_epoch(2)
    (loss, ours), (expected, naive) = gradients(method, model, batch), gradients(plain, same, batch)
    assert torch.equal(loss, expected)
    assert_same(method.adjust(ours), naive)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -1.0}, "alpha must be a finite number, 0 or more"),
        ({"w1": 0.0}, "w1 must be a finite number above 0"),
        ({"w2": 6.0}, "w2 must be from 0 to w1=5.0"),
        ({"stage_epochs": -1}, "stage_epochs must be 0 or more"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        ReconBoostOptions(**options)


@pytest.mark.parametrize("amr_optimizer", ["shared", "separate"])
def test_amr_leaves_frozen_classifiers_alone(amr_optimizer):
    train, none = make_clips(32), make_clips(0)
    settings = {"epochs": 1, "amr_optimizer": amr_optimizer, "select": "last"}
    plain, pulled = (
        fit_group("reconboost", [Member(0, ratio, 1.0)], train, none, **settings).model.run_state(0)
        for ratio in (None, (0.9, 0.1))
    )
    assert torch.equal(plain["head.classifiers.1.weight"], pulled["head.classifiers.1.weight"])
    assert not torch.equal(plain["head.classifiers.0.weight"], pulled["head.classifiers.0.weight"])
