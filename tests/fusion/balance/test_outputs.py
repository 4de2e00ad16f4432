"""Losses of the modalities are those of PyTorch, over the clips that have them."""

import pytest
import torch
from torch.nn import functional

from amr.fusion.balance import agm_losses, modality_losses, score_ratios, unimodal_logits
from amr.fusion.tasks.multiclass import MULTICLASS


def drawn(num_clips=40):
    draws = torch.Generator().manual_seed(0)
    out = torch.randn(3, 2, num_clips, 4, generator=draws, dtype=torch.float64)
    target = torch.randint(4, (2, num_clips), generator=draws)
    present = torch.rand(2, num_clips, 3, generator=draws) < 0.6
    return out, target, present


@pytest.mark.parametrize("weights", [None, [0.5, 9.0, 1.0, 0.0]])
def test_the_loss_of_a_modality_is_the_weighted_mean_over_the_clips_that_have_it(weights):
    out, target, present = drawn()
    weight = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    found = modality_losses(out, target, present, MULTICLASS.weighted(weight))
    for m in range(3):
        for run in range(2):
            has = present[run, :, m]
            expected = functional.cross_entropy(out[m, run, has], target[run, has], weight=weight)
            torch.testing.assert_close(found[m, run], expected)


def test_a_modality_that_only_rare_classes_have_does_not_look_weaker():
    out, target = torch.zeros(2, 10, 2), torch.tensor([0] * 9 + [1])
    present = torch.stack([torch.ones(10, dtype=torch.bool), target == 1], dim=-1)
    task = MULTICLASS.weighted(torch.tensor([10 / 18, 5.0]))
    even = torch.full((2,), 2.0).log()
    torch.testing.assert_close(modality_losses(out, target, present, task), even)
    torch.testing.assert_close(agm_losses(out, target, present, task), even)


def test_without_clips_the_loss_is_0():
    out, target, present = drawn()
    assert not modality_losses(out, target, present & False).any()
    assert not modality_losses(out, target, present, MULTICLASS.weighted(torch.zeros(4))).any()


def test_steps_need_present():
    z = {"audio": torch.ones(5, 7, 3), "video": torch.ones(5, 3)}
    with pytest.raises(ValueError, match="z must have a modality, got none"):
        unimodal_logits(lambda z, present: None, {})
    with pytest.raises(ValueError, match=r"z must be \(..., clips, dim\) .* got .*\(5, 7, 3\).*Pass present"):
        unimodal_logits(lambda z, present: z["video"] + z["audio"].sum(-2), z)


@pytest.mark.parametrize("clips", [4, 6])
def test_targets_of_other_clips_are_refused(clips):
    out = torch.zeros(2, 5, 3)
    for function in (modality_losses, agm_losses, score_ratios):
        with pytest.raises(ValueError, match=r"target must be the classes of the same clips .*\(2, 5, 3\), got shape"):
            function(out, torch.zeros(clips, dtype=torch.long))
