"""Values of modalities on clips, and what follows from them, by hand."""

from itertools import permutations

import pytest
import torch

from amr.fusion.balance import cooperation_values, least_sure_modality, num_copies, share_without


def answers(right):
    """Logits of one clip of class 0, whose answer from each subset is right or wrong."""
    return torch.tensor([[[1.0, 0.0] if each else [0.0, 1.0]] for each in right])


def test_values_of_two_modalities_are_those_of_the_paper_s_formula():
    for number in range(8):
        video, audio, both = (bool(number >> i & 1) for i in range(3))
        phi = cooperation_values(answers([False, video, audio, both]), torch.tensor([0]))[:, 0]
        expected = (audio + 2 * both - video) / 2, (video + 2 * both - audio) / 2
        torch.testing.assert_close(phi, torch.tensor(expected))
        swapped = cooperation_values(answers([False, audio, video, both]), torch.tensor([0]))[:, 0]
        assert torch.equal(phi, swapped.flip(0))


def test_values_of_three_modalities_are_mean_gains_over_all_orders():
    right = torch.rand(8, generator=torch.Generator().manual_seed(0)) > 0.4
    value = {number: bin(number).count("1") * float(right[number]) for number in range(8)}
    expected = torch.zeros(3)
    for order in permutations(range(3)):
        joined = 0
        for m in order:
            more = joined | (4 >> m)
            expected[m] += (value[more] - value[joined]) / 6
            joined = more
    torch.testing.assert_close(cooperation_values(answers(right), torch.tensor([0]))[:, 0], expected)


def test_full_cooperation_has_no_copies_for_any_number_of_modalities():
    for size in (2, 3, 4):
        phi = cooperation_values(answers([True] * 2**size), torch.tensor([0]))
        torch.testing.assert_close(phi, torch.ones_like(phi))
        assert not num_copies(phi).any()


def test_a_modality_that_a_clip_lacks_has_no_value():
    present = torch.tensor([[True, False]])
    phi = cooperation_values(answers([False, False, True, True]), torch.tensor([0]), present)
    assert phi.flatten().tolist() == [1, 0]


def test_the_share_without_the_strongest_grows_with_the_gap():
    values = torch.tensor([1.25, 0.5])
    assert share_without(values).tolist() == pytest.approx([0.5, 0])
    assert share_without(values.flip(0)).tolist() == pytest.approx([0, 0.5])
    assert share_without(values, growth="tanh").tolist() == pytest.approx([0.46212, 0], rel=1e-4)
    assert share_without(values, growth="power").tolist() == pytest.approx([0.5**1.5, 0])
    assert share_without(values, strength=9.0).tolist() == [1, 0]
    assert not share_without(torch.ones(3)).any()


def test_the_least_sure_modality_has_the_least_divergence_from_uniform():
    out = torch.randn(3, 2, 9, 4, generator=torch.Generator().manual_seed(0)).double()
    p = out.softmax(-1)
    from_uniform = (p * (p / 0.25).log()).sum(-1)
    assert torch.equal(least_sure_modality(out), from_uniform.argmin(0))
    assert torch.equal(least_sure_modality(out.flip(0)), 2 - least_sure_modality(out))


def test_only_modalities_that_a_clip_has_are_compared():
    out = torch.tensor([[[5.0, 0.0]], [[0.0, 0.0]]])
    assert least_sure_modality(out).tolist() == [1]
    assert least_sure_modality(out, torch.tensor([[True, False]])).tolist() == [0]


def test_a_modality_that_nothing_is_compared_with_has_no_share():
    assert share_without(torch.tensor([1.2, torch.nan])).tolist() == [0, 0]
    with pytest.raises(ValueError, match="Did you mean linear"):
        share_without(torch.tensor([1.2, 0.6]), growth="linea")
    torch.testing.assert_close(share_without(torch.tensor([1.2, 1.2, 0.6])), torch.tensor([0.2, 0.2, 0.0]))
