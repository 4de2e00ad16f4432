"""MIDAS: the formulas of the paper by hand, the weights of its modalities, its warm-up, and weights of 0."""

import pytest
import torch
from torch.nn import functional

from amr.fusion.balance import misalign, weak_modality_step
from amr.fusion.methods.midas import MIDASOptions
from amr.fusion.train.recipe import Member

from ..conftest import make_clips
from .conftest import SEEDS, assert_same, batch_of, build, fit_group, gradients, with_gaps

THREE = {"audio": 5, "text": 4, "video": 3}
OFF = {"weight": 0.0, "unimodal": 0.0}
NO_WARM_UP = {"warm_up": 0.0}


def slow_mean(model, batch, orders, weak, hard=True):
    """Mean weighted loss of the misaligned clips of each run of a linear concat head in float64, one by one."""
    z = {m: value.detach().double() for m, value in model.encode(batch).items()}
    weight, bias = (x.detach().double() for x in (model.head.classifier.weight, model.head.classifier.bias))
    parts = dict(zip(z, weight.split([value.shape[-1] for value in z.values()], dim=-1), strict=True))
    result = []
    for run, order in enumerate(orders.tolist()):
        losses, y = [], batch.target[run].tolist()
        for swapped in range(2):
            for i, j in enumerate(order):
                if y[i] == y[j] or not batch.present[run, i].all() or not batch.present[run, j, swapped]:
                    continue
                of = [j if k == swapped else i for k in range(2)]
                out = [parts[m][run] @ z[m][run, of[k]] for k, m in enumerate(z)]
                confidence = [(o + bias[run] / 2).softmax(-1)[y[of[k]]] for k, o in enumerate(out)]
                c = [each / sum(confidence) for each in confidence]
                log_p = (sum(out) + bias[run]).log_softmax(-1)
                loss = -sum(float(weak[k, run]) * c[k] * log_p[y[of[k]]] for k in range(2))
                m = list(z)[swapped]
                alike = torch.cosine_similarity(z[m][run, i], z[m][run, j], dim=0).clamp_min(0)
                losses.append(loss * alike if hard else loss)
        result.append(sum(losses) / len(losses))
    return torch.stack(result)


@pytest.mark.parametrize("hard", [True, False])
def test_with_two_modalities_it_is_the_paper_s_formula_in_float64(hard):
    train = with_gaps(make_clips(24))
    method, model = build("midas", train, options={**NO_WARM_UP, "weight": 0.6, "unimodal": 0.3, "hard": hard})
    control, _ = build("multi-loss", train, options={"weight": 0.3})
    batch = batch_of(train)
    method.begin_epoch(1)
    method.weak = torch.tensor([[1.0, 1.5], [2.0, 1.0]])
    weak = method.weak.clone()
    state = method.context.noise.state()
    orders = method.context.noise.uniform(24).argsort(-1)
    method.context.noise.load(state)
    loss, _ = gradients(method, model, batch)
    expected = gradients(control, model, batch)[0].double() + 0.6 * slow_mean(model, batch, orders, weak, hard)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)


def test_weights_of_the_modalities_start_at_1_in_each_epoch_and_are_at_least_1():
    train = make_clips(30)
    method, model = build("midas", train, options={**NO_WARM_UP, "step": 5.0})
    batch = batch_of(train)
    method.begin_epoch(1)
    for _ in range(3):
        gradients(method, model, batch)
    assert method.weak.min() == 1
    method.begin_epoch(2)
    assert torch.equal(method.weak, torch.ones(2, len(SEEDS)))


def test_the_warm_up_is_the_losses_of_the_modalities_alone():
    train = with_gaps(make_clips(30))
    method, model = build("midas", train, epochs=10)
    naive, multi = build("naive", train)[0], build("multi-loss", train)[0]
    batch = batch_of(train)
    method.begin_epoch(1)
    warm, _ = gradients(method, model, batch)
    both, joint = gradients(multi, model, batch)[0], gradients(naive, model, batch)[0]
    torch.testing.assert_close(warm, both - joint)
    method.begin_epoch(2)
    assert bool((gradients(method, model, batch)[0] > both).all())


def test_own_classifiers_learn_in_the_warm_up_and_the_head_does_not():
    train = make_clips(30)
    method, model = build("midas", train, options={"own": True}, epochs=10)
    batch = batch_of(train)
    method.begin_epoch(1)
    _, found = gradients(method, model, batch)
    assert not any(value.any() for name, value in found.items() if name.startswith("head."))
    own = torch.autograd.grad(method.loss(model, batch, model.encode(batch)).sum(), method.parameters())
    assert all(value.any() for value in own)


def test_in_a_training_of_1_epoch_the_head_learns():
    train = make_clips(30)
    method, model = build("midas", train, options={"own": True}, epochs=1)
    method.begin_epoch(1)
    _, found = gradients(method, model, batch_of(train))
    assert all(value.any() for name, value in found.items() if name.startswith("head."))


def test_weights_of_0_are_naive_training_bit_for_bit():
    train, val = make_clips(), make_clips(40, seed=1)
    ours = fit_group("midas", [Member(0)], train, val, OFF)
    assert_same(ours.model.run_state(0), fit_group("naive", [Member(0)], train, val).model.run_state(0))


def test_a_batch_of_one_class_has_no_misaligned_clips():
    train = make_clips(30)
    train.target.fill_(1)
    method, model = build("midas", train, options=NO_WARM_UP)
    control, _ = build("multi-loss", train)
    batch = batch_of(train)
    method.begin_epoch(1)
    torch.testing.assert_close(gradients(method, model, batch)[0], gradients(control, model, batch)[0])
    assert torch.equal(method.weak, torch.ones(2, len(SEEDS)))


@pytest.mark.parametrize("own", [True, False])
def test_three_modalities_of_which_clips_lack_some_stay_finite(own):
    train, val = with_gaps(make_clips(40, THREE)), make_clips(20, THREE, seed=1)
    fitted = fit_group("midas", [Member(0)], train, val, {"own": own}, head="film", hidden=4)
    assert torch.isfinite(fitted.history["train_loss"]).all()


@pytest.mark.parametrize("options", [{"weight": -1.0}, {"unimodal": -1.0}, {"warm_up": 1.0}, {"step": float("inf")}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=f"--method-option {next(iter(options))} must be"):
        MIDASOptions(**options)


def test_a_modality_that_clips_lack_is_not_the_least_sure():
    """A third modality, which half of the clips have, or none, and which is the surest where it is."""
    torch.manual_seed(0)
    target, partners = torch.arange(8) % 4, torch.roll(torch.arange(8), 1)
    out = torch.randn(3, 8, 4) + torch.tensor([1.0, 2.0, 9.0]).view(3, 1, 1) * functional.one_hot(target, 4)
    for has in (torch.arange(8) < 4, torch.zeros(8, dtype=torch.bool)):
        present = torch.stack([torch.ones(8, dtype=torch.bool)] * 2 + [has], dim=-1)
        step = weak_modality_step(torch.randn(3, 8, 4), misalign(out, target, partners, present))
        assert step[0] != 0
        assert step[1:].tolist() == [0, 0]
