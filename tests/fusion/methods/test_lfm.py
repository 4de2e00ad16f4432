"""LFM: the paper's formula with the true Jensen-Shannon divergence, its schedule, and weight 0."""

import pytest
import torch
from torch.nn import functional

from amr.fusion.balance import disagreement
from amr.fusion.methods.lfm import LFMOptions, fitted_part
from amr.fusion.train.recipe import Member

from ..conftest import make_clips
from .conftest import assert_same, batch_of, build, fit_group, gradients, with_gaps


def slow_loss(model, batch, part, align):
    """Loss of each run of a linear concat head in float64, with out_m = W_m z^m + b / 2."""
    z = model.encode(batch)
    weight, bias = model.head.classifier.weight.double(), model.head.classifier.bias.double()
    parts = weight.split([value.shape[-1] for value in z.values()], dim=-1)
    out = [
        torch.einsum("rbd,rcd->rbc", value.double(), each) + bias[:, None] / 2
        for value, each in zip(z.values(), parts, strict=True)
    ]
    joint = functional.cross_entropy(sum(out).movedim(-1, 1), batch.target, reduction="none").mean(-1)
    p, q = (each.softmax(-1) for each in out)
    mean = (p + q) / 2
    divergence = sum((x * (x / mean).log()).sum(-1) for x in (p, q)) / 2
    both = batch.present.all(-1)
    apart = (divergence * both).sum(-1) / both.sum(-1)
    return 2 * (part * joint + (1 - part) * align * apart)


@pytest.mark.parametrize(("options", "part"), [({"align": 0.5}, 0.5), ({"schedule": "fitted"}, 0.2046)])
def test_with_two_modalities_it_is_the_paper_s_formula_in_float64(options, part):
    train = with_gaps(make_clips(30))
    method, model = build("lfm", train, options=options)
    method.begin_epoch(1)
    batch = batch_of(train)
    loss, _ = gradients(method, model, batch)
    torch.testing.assert_close(
        loss.double(), slow_loss(model, batch, part, options.get("align", 1.0)), rtol=1e-5, atol=1e-6
    )


def test_the_fitted_schedule_depends_on_the_share_of_the_training():
    short, _ = build("lfm", options={"schedule": "fitted"}, epochs=10)
    long, _ = build("lfm", options={"schedule": "fitted"}, epochs=100)
    short.begin_epoch(6)
    long.begin_epoch(51)
    assert short.part == long.part == fitted_part(0.5)


@pytest.mark.parametrize("schedule", ["even", "fitted"])
def test_align_0_is_naive_training_bit_for_bit(schedule):
    train, val = make_clips(), make_clips(40, seed=1)
    ours = fit_group("lfm", [Member(0)], train, val, {"align": 0.0, "schedule": schedule})
    assert_same(ours.model.run_state(0), fit_group("naive", [Member(0)], train, val).model.run_state(0))


@pytest.mark.parametrize(("options", "message"), [({"align": -1.0}, "align must"), ({"schedule": "x"}, "even or fit")])
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LFMOptions(**options)


def test_one_modality_agrees_with_itself():
    assert disagreement(torch.randn(1, 2, 5, 3)).tolist() == [0, 0]
