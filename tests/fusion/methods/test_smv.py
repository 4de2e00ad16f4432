"""SMV: values and copies of the paper, the loss over copies, and when it does not act."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from amr.fusion.balance import share_without
from amr.fusion.methods.smv import SMVOptions, can_copy
from amr.fusion.train.recipe import Member

from ..conftest import make_clips
from .conftest import SEEDS, assert_same, build, fit_group, gradients, with_gaps

THREE = {"audio": 5, "text": 4, "video": 3}
ACTS = {"warm_up": 0.0}


@pytest.mark.parametrize("weights", [None, torch.tensor([0.2, 3.0, 1.0])])
@pytest.mark.parametrize("level", ["sample", "modality"])
def test_the_loss_is_the_mean_over_clips_and_their_copies(level, weights):
    train = with_gaps(make_clips(30))
    method, model = build("smv", train, options={**ACTS, "level": level})
    method.context = replace(method.context, task=method.context.task.weighted(weights))
    method.begin_epoch(1)
    index = torch.stack([torch.randperm(30, generator=torch.Generator().manual_seed(i))[:20] for i in range(2)])
    batch = train.gather(index, len(SEEDS))
    loss, _ = gradients(method, model, batch)
    z = model.encode(batch)
    for run in range(len(SEEDS)):
        answers, targets = [], []
        for place, clip in enumerate(index[run].tolist()):
            shown = [(1.0, 1.0)] + [
                kept
                for i, kept in enumerate(((1.0, 0.0), (0.0, 1.0)))
                for _ in range(int(method.copies[i if level == "sample" else 1 - i, run, clip]))
            ]
            for kept in shown:
                masked = {m: value * k for (m, value), k in zip(z.items(), kept, strict=True)}
                answers.append(model.head(masked, batch.present)[run, place])  # concat does not look at presence
                targets.append(batch.target[run, place])
        expected = functional.cross_entropy(torch.stack(answers), torch.stack(targets), weight=weights)
        torch.testing.assert_close(loss[run], expected, rtol=1e-5, atol=1e-6)
    assert method.copies.sum() > 0


def test_a_clip_with_one_modality_is_not_copied():
    present = torch.tensor([[True, True, True], [True, False, True], [False, True, False], [False, False, False]])
    each = torch.eye(3, dtype=torch.bool)
    assert can_copy(each, present).squeeze(1).int().tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]]
    assert can_copy(~each, present).squeeze(1).int().tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]]


def test_copies_of_a_clip_do_not_depend_on_its_batch():
    train = make_clips(30)
    method, model = build("smv", train, options=ACTS)
    method.begin_epoch(1)
    first, _ = gradients(method, model, train.gather(torch.arange(30).expand(2, -1), 2))
    second, _ = gradients(method, model, train.gather(torch.arange(30).flip(0).expand(2, -1), 2))
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("options", [{"warm_up": 1.0}, {**ACTS, "level": "modality", "strength": 0.0}])
def test_without_copies_it_is_naive_training(options):
    train, val = make_clips(), make_clips(40, seed=1)
    ours = fit_group("smv", [Member(0)], train, val, options)
    naive = fit_group("naive", [Member(0)], train, val)
    exact = options["warm_up"] == 1
    tolerance = {} if exact else {"rtol": 1e-4, "atol": 1e-5}
    assert_same(ours.model.run_state(0), naive.model.run_state(0), **tolerance)
    assert not ours.history["copies_only_audio" if exact else "copies_without_audio"].any()


def test_the_warm_up_is_a_share_of_the_training():
    for epochs, first in ((60, 6), (10, 2), (2, 2), (1, 1)):
        method, _ = build("smv", epochs=epochs)
        for epoch in range(1, first):
            method.begin_epoch(epoch)
        assert method.copies is None
        method.begin_epoch(first)
        assert method.copies is not None


@pytest.mark.parametrize("level", ["sample", "modality"])
def test_three_modalities_of_which_clips_lack_some_stay_finite(level):
    train, val = with_gaps(make_clips(40, THREE)), make_clips(20, THREE, seed=1)
    fitted = fit_group("smv", [Member(0)], train, val, {**ACTS, "level": level}, head="gated", hidden=4)
    assert torch.isfinite(fitted.history["train_loss"]).all()


@pytest.mark.parametrize("options", [{"level": "x"}, {"warm_up": 2.0}, {"strength": -1.0}, {"growth": "x"}])
def test_options_out_of_range_are_refused(options):
    assert replace(SMVOptions(), level="modality").level == "modality"
    with pytest.raises(ValueError, match=f"--method-option {next(iter(options))} must be"):
        SMVOptions(**options)


def test_a_modality_that_few_or_no_clips_have_is_valued_on_those():
    torch.testing.assert_close(share_without(torch.tensor([1.2, 0.6, torch.nan])), torch.tensor([0.4, 0.0, 0.0]))
    train = make_clips(20)
    train.present[::2, 1] = False
    train.embeddings["video"][::2] = 0
    method, _ = build("smv", train, options={"warm_up": 0.0, "level": "modality"})
    phi = torch.stack([torch.ones(2, 20), train.present[:, 1].expand(2, 20).float()])  # all answers are right
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("amr.fusion.methods.smv.over_clips", lambda *_: [phi])
        method.begin_epoch(1)
    assert not method.copies.any()
