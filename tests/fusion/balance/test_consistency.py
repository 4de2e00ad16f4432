"""Predictions of modalities and subsets against each other, by hand."""

import pytest
import torch

from amr.fusion.balance import class_contrast, confidence_drops, disagreement, nested_subsets, permutation_divergence


def test_a_clip_whose_confidence_rises_with_each_modality_is_not_penalized():
    logits = torch.tensor([[[1.0, 0.0]], [[2.0, 0.0]], [[3.0, 0.0]]])
    assert confidence_drops(logits, torch.tensor([0])).item() == 0
    assert confidence_drops(logits.flip(0), torch.tensor([0])).item() > 0


def test_confidence_may_fall_where_the_answer_was_right_and_is_now_wrong():
    logits = torch.tensor([[[2.0, 0.0]], [[0.0, 1.0]]])
    assert confidence_drops(logits, torch.tensor([0])).item() == 0
    assert confidence_drops(logits, torch.tensor([1])).item() > 0


def test_chains_are_nested_and_end_with_all_modalities():
    chain = nested_subsets(torch.rand(5, 4, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(chain.sum(-1), torch.arange(1, 5)[:, None].expand(-1, 5))
    assert bool((chain[1:] | ~chain[:-1]).all())


def test_of_three_modalities_it_is_the_sum_over_pairs_whatever_their_order():
    out = torch.randn(3, 2, 7, 4, generator=torch.Generator().manual_seed(0))
    pairs = sum(disagreement(out[[i, j]]) for i, j in ((0, 1), (0, 2), (1, 2)))
    torch.testing.assert_close(disagreement(out), pairs)
    torch.testing.assert_close(disagreement(out.flip(0)), pairs)


def test_the_contrast_is_that_of_the_paper_and_leaves_out_clips_that_lack_a_modality():
    first, second = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)).double()
    target, valid = torch.tensor([0, 1, 0, 1, 0]), torch.tensor([True, True, True, True, False])
    total = 0.0
    for a, b in ((first, second), (second, first)):
        for i in range(4):
            similar = torch.stack([torch.cosine_similarity(a[i], b[j], dim=0) / 0.5 for j in range(4)])
            log_p = similar.log_softmax(-1)
            total -= float(torch.stack([log_p[j] for j in range(4) if target[j] == target[i]]).mean()) / 8
    assert class_contrast(first, second, target, valid).item() == pytest.approx(total)
    assert class_contrast(first, second, target, torch.zeros(5, dtype=torch.bool)).item() == 0


def test_an_encoding_of_0_has_no_direction_and_takes_no_part():
    first, second = (torch.randn(4, 3, generator=torch.Generator().manual_seed(i)) for i in range(2))
    target, without = torch.tensor([0, 1, 0, 1]), torch.tensor([True, False, True, True])
    second[1] = 0
    loss = class_contrast(first, second.requires_grad_(), target)
    torch.testing.assert_close(loss, class_contrast(first, second, target, without))
    assert not torch.autograd.grad(loss, second)[0][1].any()


def test_without_a_run_axis_the_divergence_is_that_of_each_run():
    draws = torch.Generator().manual_seed(0)
    z = {"audio": torch.randn(2, 7, 3, generator=draws), "video": torch.randn(2, 7, 3, generator=draws)}
    order, present = torch.rand(2, 7, generator=draws).argsort(-1), torch.rand(2, 7, 2, generator=draws) > 0.3

    def head(z, present):
        return torch.tanh(z["audio"] + 2 * z["video"])

    together = permutation_divergence(head, z, order, present)
    for run in range(2):
        alone = permutation_divergence(head, {m: value[run] for m, value in z.items()}, order[run], present[run])
        torch.testing.assert_close(together[:, run], alone)
