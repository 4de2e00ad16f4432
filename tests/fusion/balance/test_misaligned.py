"""Misaligned clips: their labels, losses and weights, by hand."""

import torch
from torch.nn import functional

from amr.fusion.balance import Misaligned, misalign, misaligned_losses, similarity, weak_modality_step


def mixed_of(seed=0, size=3, num_clips=12):
    draws = torch.Generator().manual_seed(seed)
    out = torch.randn(size, 2, num_clips, 4, generator=draws)
    target = torch.randint(4, (2, num_clips), generator=draws)
    partners = torch.rand(2, num_clips, generator=draws).argsort(-1)
    present = torch.rand(2, num_clips, size, generator=draws) > 0.2
    return out, target, partners, present


def test_labels_sum_to_1_and_absent_modalities_have_no_part():
    out, target, partners, present = mixed_of()
    mixed = misalign(out, target, partners, present)
    assert mixed.valid.any()
    total = mixed.label.sum(1)
    torch.testing.assert_close(total[mixed.valid], torch.ones_like(total[mixed.valid]))
    absent = ~present.movedim(-1, 0).expand(3, -1, -1, -1)
    assert not mixed.label[absent].any()


def test_swapped_modalities_swap_labels_losses_and_weights():
    out, target, partners, present = mixed_of(size=2)
    weak = torch.tensor([[1.0, 2.0], [3.0, 1.0]])
    logits = torch.randn(2, 2, 12, 4, generator=torch.Generator().manual_seed(1))
    there, back = misalign(out, target, partners, present), misalign(out.flip(0), target, partners, present.flip(-1))
    assert torch.equal(there.label, back.label.flip(0, 1))
    losses = misaligned_losses(logits, there, weak), misaligned_losses(logits.flip(0), back, weak.flip(0)).flip(0)
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(weak_modality_step(logits, there), weak_modality_step(logits.flip(0), back).flip(0))


def test_the_weight_of_the_least_confident_modality_grows_where_the_model_neglects_it():
    """The paper's example: its label has .25 for the modality, and the model gives it .1."""
    yes = torch.ones(1, 1, dtype=torch.bool)
    mixed = Misaligned(torch.tensor([[[0], [1]]]), torch.tensor([[[0.75], [0.25]]]), yes, yes.expand(2, 1))
    logits = torch.tensor([[[0.9, 0.1, 1e-9]]]).log()
    torch.testing.assert_close(weak_modality_step(logits, mixed), torch.tensor([0.0, 0.15]), rtol=1e-4, atol=1e-6)


def test_a_modality_whose_label_is_too_small_for_a_number_counts_as_present():
    out = torch.tensor([[[0.0, 200.0], [200.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    mixed = misalign(out, torch.tensor([0, 1]), torch.tensor([1, 0]), torch.ones(2, 2, dtype=torch.bool))
    assert (mixed.label == 0).any()
    torch.testing.assert_close(weak_modality_step(torch.zeros(2, 2, 2), mixed), torch.tensor([-0.5, 0.0]))


def test_no_gradient_flows_through_labels():
    out, target, partners, present = mixed_of()
    assert not misalign(out.requires_grad_(), target, partners, present).label.requires_grad


def test_labels_are_soft_cross_entropy_if_the_weights_are_1():
    out, target, partners, present = mixed_of()
    mixed = misalign(out, target, partners, present)
    logits = torch.randn(3, 2, 12, 4, generator=torch.Generator().manual_seed(1))
    soft = torch.zeros(3, 2, 12, 4)
    for m in range(3):
        soft = soft + mixed.label[:, m, ..., None] * functional.one_hot(mixed.target[:, m], 4)
    expected = functional.cross_entropy(logits.flatten(0, 2), soft.flatten(0, 2), reduction="none").view(3, 2, 12)
    torch.testing.assert_close(misaligned_losses(logits, mixed, torch.ones(3, 2)), expected)


def test_without_a_run_axis_labels_and_weights_are_those_of_each_run():
    out, target, partners, present = mixed_of()
    logits = torch.randn(3, 2, 12, 4, generator=torch.Generator().manual_seed(1))
    together = misalign(out, target, partners, present)
    for run in range(2):
        alone = misalign(out[:, run], target[run], partners[run], present[run])
        assert torch.equal(alone.label, together.label[:, :, run])
        assert torch.equal(alone.target, together.target[:, :, run])
        assert torch.equal(alone.valid, together.valid[:, run])
        torch.testing.assert_close(
            weak_modality_step(logits[:, run], alone), weak_modality_step(logits, together)[:, run]
        )


def test_similarity_is_a_cosine_that_is_never_negative():
    z = {"audio": torch.tensor([[1.0, 0.0], [1.0, 1.0], [-1.0, 0.0]])}
    found = similarity(z, torch.tensor([1, 0, 0]))
    torch.testing.assert_close(found, torch.tensor([[0.5**0.5, 0.5**0.5, 0.0]]))
