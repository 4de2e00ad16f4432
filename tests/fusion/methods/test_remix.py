"""Data remixing: which modality a clip shows, batches of one modality, the loss, and when it does not act."""

import pytest
import torch
from torch.nn import functional

from amr.fusion.methods.remix import RemixOptions
from amr.fusion.train.recipe import Member

from ..conftest import make_clips
from .conftest import SEEDS, assert_same, batch_of, build, fit_group, gradients, with_gaps

ACTS = {"warm_up": 0.0}


def test_after_the_warm_up_the_loss_is_that_of_the_modality_that_each_clip_shows():
    train = with_gaps(make_clips(30))
    method, model = build("remix", train, options=ACTS)
    method.begin_epoch(1)
    index = torch.stack([torch.randperm(30, generator=torch.Generator().manual_seed(i))[:20] for i in range(2)])
    batch = train.gather(index, len(SEEDS))
    loss, _ = gradients(method, model, batch)
    z, weight, bias = model.encode(batch), model.head.classifier.weight.double(), model.head.classifier.bias.double()
    parts = weight.split([value.shape[-1] for value in z.values()], dim=-1)
    for run in range(len(SEEDS)):
        losses = []
        for place, clip in enumerate(index[run].tolist()):
            shown = int(method.shown[run, clip])
            assert batch.present[run, place, shown]
            value = list(z.values())[shown][run, place].double()
            losses.append(functional.cross_entropy(parts[shown][run] @ value + bias[run], batch.target[run, place]))
        torch.testing.assert_close(loss[run].double(), torch.stack(losses).mean(), rtol=1e-5, atol=1e-6)
    assert 0 < method.shown.float().mean() < 1


def test_the_warm_up_is_multi_loss_and_a_share_of_the_training():
    train = with_gaps(make_clips(30))
    method, model = build("remix", train, epochs=12)
    control, _ = build("multi-loss", train, options={"weight": 0.5})
    method.begin_epoch(2)
    batch = batch_of(train)
    assert torch.equal(gradients(method, model, batch)[0], gradients(control, model, batch)[0])
    method.begin_epoch(3)
    assert method.shown is not None


@pytest.mark.parametrize("batch_size", [8, 30, 64])
def test_batches_hold_clips_of_one_modality(batch_size):
    train = make_clips(90)
    method, _ = build("remix", train, options=ACTS)
    order = torch.stack([torch.randperm(90, generator=torch.Generator().manual_seed(i)) for i in range(2)])
    assert method.arrange(order, batch_size) is order
    method.begin_epoch(1)
    arranged = method.arrange(order, batch_size)
    assert torch.equal(arranged.sort(1).values, order.sort(1).values)  # each clip once
    mixed = [method.shown.gather(1, part).float().var(1) > 0 for part in arranged.split(batch_size, dim=1)]
    assert bool((torch.stack(mixed).sum(0) <= 1).all())  # where one modality ends


def test_an_order_that_runs_share_is_taken_apart():
    method, _ = build("remix", make_clips(30), options=ACTS, seeds=(1, 1))
    method.begin_epoch(1)
    assert method.arrange(torch.arange(30)[None], 4).shape == (2, 30)


def test_without_warm_up_losses_and_remixing_it_is_naive_training_bit_for_bit():
    train, val = make_clips(), make_clips(40, seed=1)
    ours = fit_group("remix", [Member(0)], train, val, {"warm_up": 1.0, "unimodal": 0.0})
    assert_same(ours.model.run_state(0), fit_group("naive", [Member(0)], train, val).model.run_state(0))


def test_the_history_has_the_share_of_clips_that_show_each_modality():
    train, val = make_clips(), make_clips(40, seed=1)
    history = fit_group("remix", [Member(0)], train, val, {"warm_up": 0.5}).history
    total = history["shown_audio"] + history["shown_video"]
    torch.testing.assert_close(total[:, 0], torch.tensor([2.0, 2.0, 1.0, 1.0]))


@pytest.mark.parametrize("options", [{"warm_up": 1.5}, {"unimodal": -0.5}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=f"--method-option {next(iter(options))} must be"):
        RemixOptions(**options)


def test_a_batch_that_does_not_know_its_clips_is_refused_after_the_warm_up():
    train = make_clips(30)
    method, model = build("remix", train, options=ACTS)
    method.begin_epoch(1)
    with pytest.raises(ValueError, match="batch must have the numbers of its clips"):
        gradients(method, model, batch_of(train))
