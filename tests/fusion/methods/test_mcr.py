"""MCR: its terms by hand, its games, and weights of 0."""

from functools import partial

import pytest
import torch

from amr.fusion.balance import permutation_divergence
from amr.fusion.methods.mcr import MCROptions
from amr.fusion.train.recipe import Member

from ..conftest import make_clips
from .conftest import assert_same, batch_of, build, fit_group, gradients, with_gaps

OFF = {"weight": 0.0, "unimodal": 0.0, "contrast": 0.0}


def slow_divergences(model, batch, orders):
    """MIPD of each modality and run of a linear concat head in float64, one clip at a time."""
    z = {m: value.double() for m, value in model.encode(batch).items()}
    weight, bias = model.head.classifier.weight.double(), model.head.classifier.bias.double()
    result = torch.zeros(2, len(bias), dtype=torch.float64)
    for run, order in enumerate(orders.tolist()):
        for i, m in enumerate(z):
            found = []
            for clip, other in enumerate(order):
                if other == clip or not batch.present[run, [clip, other], i].all():
                    continue
                swapped = {n: value[run, other if n == m else clip] for n, value in z.items()}
                p, q = (
                    (weight[run] @ torch.cat(list(each.values())) + bias[run]).softmax(-1)
                    for each in ({n: value[run, clip] for n, value in z.items()}, swapped)
                )
                mean = (p + q) / 2
                found.append(float(sum((x * (x / mean).log()).sum() for x in (p, q)).detach()) / 2)
            result[i, run] = sum(found) / len(found)
    return result


def test_with_two_modalities_it_is_the_paper_s_formula_in_float64():
    train = with_gaps(make_clips(30))
    method, model = build("mcr", train, options={"weight": 0.3, "unimodal": 0.2})
    control, _ = build("multi-loss", train, options={"weight": 0.2})
    batch = batch_of(train)
    state = method.context.noise.state()
    orders = method.context.noise.uniform(30).argsort(-1)
    method.context.noise.load(state)
    loss, _ = gradients(method, model, batch)
    expected = gradients(control, model, batch)[0].double() - 0.3 * slow_divergences(model, batch, orders).sum(0)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)


def test_swapped_modalities_swap_the_divergences():
    train = make_clips(20)
    _, model = build("mcr", train)
    batch = batch_of(train)
    z = model.encode(batch)
    order = torch.arange(20).roll(1).expand(2, -1)
    there = permutation_divergence(model.head, z, order, batch.present)
    back = permutation_divergence(model.head, dict(reversed(z.items())), order, batch.present)
    assert torch.equal(there, back.flip(0))
    assert not torch.equal(there, back)


def adapter_gradients(game, mine):
    """Gradients of one modality's divergence in the adapters of audio and video, and in the head."""
    train = make_clips(20)
    _, model = build("mcr", train, options={"game": game})
    batch = batch_of(train)
    order = torch.arange(20).roll(1).expand(2, -1)
    others = {"collaborative": 1.0, "independent": 0.0, "greedy": -1.0}[game]
    of = partial(permutation_divergence, model.head, present=batch.present, others=others)
    parameters = [model.adapters["audio"].weight, model.adapters["video"].weight, model.head.classifier.weight]
    return torch.autograd.grad(of(model.encode(batch), order)[mine].sum(), parameters)


@pytest.mark.parametrize("mine", [0, 1])
def test_in_a_game_the_others_raise_leave_or_lower_a_modality_s_divergence(mine):
    together, apart, against = (adapter_gradients(game, mine) for game in ("collaborative", "independent", "greedy"))
    for each in (apart, against):
        torch.testing.assert_close(each[mine], together[mine])
        torch.testing.assert_close(each[2], together[2])
    assert not apart[1 - mine].any()
    torch.testing.assert_close(against[1 - mine], -together[1 - mine])
    assert together[1 - mine].any()


def test_the_contrast_trains_adapters_and_needs_them():
    train, val = make_clips(40), make_clips(20, seed=1)
    options = {**OFF, "contrast": 1.0}
    ours, naive = (fit_group(n, [Member(0)], train, val, o) for n, o in (("mcr", options), ("naive", None)))
    assert not torch.equal(ours.model.adapters["audio"].weight, naive.model.adapters["audio"].weight)
    with pytest.raises(ValueError, match="contrast must be above 0 only with adapters or encoders"):
        build("mcr", train, options=options, adapter="none")


def test_weights_of_0_are_naive_training_bit_for_bit():
    train, val = make_clips(), make_clips(40, seed=1)
    ours = fit_group("mcr", [Member(0)], train, val, OFF)
    assert_same(ours.model.run_state(0), fit_group("naive", [Member(0)], train, val).model.run_state(0))


def test_it_raises_the_divergence_of_both_modalities():
    train, val = make_clips(), make_clips(0)
    found = {}
    for name, options in (("mcr", {"weight": 1.0}), ("naive", None)):
        model = fit_group(name, [Member(0)], train, val, options).model
        batch = train.slice(0, len(train), 1)
        found[name] = permutation_divergence(model.head, model.encode(batch), torch.arange(90).roll(1)[None])
    assert bool((found["mcr"] > found["naive"]).all())


@pytest.mark.parametrize("options", [{"weight": -1.0}, {"unimodal": float("nan")}, {"orders": 0}, {"game": "chess"}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=f"--method-option {next(iter(options))} must be"):
        MCROptions(**options)
