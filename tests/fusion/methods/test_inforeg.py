"""InfoReg: the leading encoder is held by the formula of the paper while its Fisher trace grows."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from amr.fusion.balance import acquisition_growth, inforeg_coefficients
from amr.fusion.data.clips import Clips
from amr.fusion.methods.inforeg import InfoRegOptions
from amr.fusion.train.recipe import Member

from ..conftest import make_clips
from .conftest import HALF, SEEDS, assert_same, batch_of, build, fit_group, gradients, with_gaps


def uneven(num_clips):
    """Clips whose video shows less than their audio."""
    clips = make_clips(num_clips)
    noise = 3 * torch.randn(num_clips, 6, generator=torch.Generator().manual_seed(7))
    return Clips({**clips.embeddings, "video": clips.embeddings["video"] + noise}, clips.present, clips.target)


@pytest.mark.parametrize(
    ("options", "other"),
    [
        ({"beta": 0.0, "unimodal": 0.0}, ("naive", None)),
        ({"beta": 0.0}, ("multi-loss", None)),
        ({"beta": 0.0, "unimodal": 0.3}, ("multi-loss", {"weight": 0.3})),
        ({"growth": 1e9}, ("multi-loss", None)),  # only in the first epoch is everyone in the prime window
    ],
)
def test_without_the_term_it_is_a_known_method_bit_for_bit(options, other):
    train, val = make_clips(), make_clips(40, seed=1)
    settings = {"optimizer": "sgd", "lr": 0.1}
    if "growth" in options:
        settings |= {"batch_size": len(train), "epochs": 1}  # one step, before which no weight has moved
    members = [Member(0), Member(3, HALF, 0.3)]
    ours = fit_group("inforeg", members, train, val, options, **settings)
    theirs = fit_group(other[0], members, train, val, other[1], **settings)
    assert_same(ours.model.state_dict(), theirs.model.state_dict())


@pytest.mark.parametrize("swapped", [False, True])
def test_gradients_are_the_formula_of_the_paper_in_float64(swapped):
    clips = with_gaps(uneven(30))
    if swapped:
        clips = Clips(dict(reversed(clips.embeddings.items())), clips.present.flip(-1), clips.target)
    method, model = build("inforeg", clips, clips, options={"beta": 0.9})
    plain, same = build("multi-loss", clips, clips)
    model.head.classifier.weight.data.mul_(3)
    method.begin_epoch(1)
    first = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
    same.load_state_dict(model.state_dict())
    batch = batch_of(clips)
    loss, found = gradients(method, model, batch)
    expected_loss, theirs = gradients(plain, same, batch)
    torch.testing.assert_close(loss, expected_loss)
    adjusted = method.adjust(found)
    z, (left, right) = model.encode(batch), model.modalities
    for run in range(len(SEEDS)):
        classifier = model.head.classifier
        w, b = classifier.weight[run].detach().double(), classifier.bias[run].detach().double()
        parts = w.split([z[left].shape[-1], z[right].shape[-1]], dim=1)
        s = []
        for i, (m, part) in enumerate(zip((left, right), parts, strict=True)):
            out = z[m][run].detach().double() @ part.T + b / 2
            p = out.softmax(-1)[torch.arange(30), batch.target[run]]
            s.append(float(p[batch.present[run, :, i]].mean()))
        c = {left: 0.0, right: 0.0}
        lead = abs(s[0] - s[1])
        c[left if s[0] > s[1] else right] = 0.9 * math.exp(math.tanh(lead))
        assert lead > 1e-3
        for name, g in adjusted.items():
            held = c[name.split(".")[1]] if name.startswith("adapters.") else 0.0
            moved = model.state_dict()[name][run].double() - first[name][run].double()
            expected = theirs[name][run].double() + held * moved
            torch.testing.assert_close(g[run].double(), expected, rtol=1e-4, atol=1e-5)
    for m in model.modalities:
        of_adapter = [g.double().square().flatten(1).sum(1) for n, g in found.items() if f"adapters.{m}." in n]
        trace = method.epoch_values()[f"fisher_trace_{m}"]
        torch.testing.assert_close(trace.double(), torch.stack(of_adapter).sum(0), rtol=1e-5, atol=1e-8)


def test_loss_is_the_joint_one_and_those_of_the_modalities():
    clips = make_clips(30)
    method, model = build("inforeg", clips, clips, seeds=(0,))
    batch = batch_of(clips, 1)
    method.begin_epoch(1)
    loss, _ = gradients(method, model, batch)
    z, head, target = model.encode(batch), model.head.classifier, batch.target[0]
    parts = head.weight[0].split([5, 5], dim=1)
    out = [z[m][0] @ part.T + head.bias[0] / 2 for m, part in zip(model.modalities, parts, strict=True)]
    expected = cross_entropy(out[0] + out[1], target) + sum(cross_entropy(each, target) for each in out)
    torch.testing.assert_close(loss[0], expected.detach())


def test_growth_over_ten_epochs_is_that_of_the_public_code():
    """Its k, by which .05 per epoch is half of the mean over a window of 10."""
    traces = torch.rand(25, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).cumsum(0)
    for n in range(1, 26):
        seen = traces[:n].tolist()
        tr1, tr2 = sum(seen[-10:]) / 10, sum(seen[-11:-1]) / 10
        assert float(acquisition_growth(traces[:n], 10)) / 10 == pytest.approx((tr1 - tr2) / tr1)


def test_who_leads_is_held_and_swapped_modalities_swap_their_coefficients():
    scores, prime = torch.rand(3, 5), torch.rand(3, 5) < 0.7
    coefficients = inforeg_coefficients(scores, prime, 0.95)
    order = [2, 0, 1]
    torch.testing.assert_close(inforeg_coefficients(scores[order], prime[order], 0.95), coefficients[order])
    assert ((coefficients > 0) == (prime & (scores > (scores.sum(0) - scores) / 2))).all()
    alone = torch.tensor([True, False])
    assert inforeg_coefficients(torch.tensor([0.9, 0.0]), torch.tensor([True, True]), 1.0, alone).tolist() == [0, 0]
    assert inforeg_coefficients(torch.tensor([0.5, 0.5]), torch.tensor([True, True]), 1.0).tolist() == [0, 0]


def test_after_the_prime_window_nothing_is_held():
    clips = uneven(30)
    method, model = build("inforeg", clips, clips, epochs=10)
    assert method.window == 2
    rising, flat = torch.tensor([[1.0], [2.0], [4.0]]), torch.ones(3, 1)
    method.load({"traces": torch.stack([rising, flat], dim=1).expand(-1, -1, len(SEEDS))})
    method.begin_epoch(4)
    assert method.prime.tolist() == [[True, True], [False, False]]
    assert {name.split(".")[1] for name in method.start} == {"audio"}
    method.load({"traces": torch.stack([flat, flat], dim=1).expand(-1, -1, len(SEEDS))})
    method.begin_epoch(5)
    assert method.start == {}
    _, found = gradients(method, model, batch_of(clips))
    assert_same(method.adjust(found), found)
    assert all((value == 0).all() for name, value in method.epoch_values().items() if name.startswith("held"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": -1.0}, "beta must be a finite number, 0 or more"),
        ({"growth": float("nan")}, "growth must be a finite number, 0 or more"),
        ({"unimodal": float("inf")}, "unimodal must be a finite number, 0 or more"),
        ({"window": 0.0}, "window must be above 0, at most 1"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        InfoRegOptions(**options)
