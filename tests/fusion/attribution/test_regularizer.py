import torch
from hypothesis import given
from hypothesis import strategies as st

from amr.fusion.attribution.regularizer import regularization


def test_it_is_the_l1_distance_of_the_mean_share():
    share = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.0, 0.0]])
    counted = torch.tensor([True, True, False])
    torch.testing.assert_close(regularization(share, counted, torch.tensor([0.5, 0.5])), torch.tensor(0.4))


@given(st.integers(2, 6), st.integers(0, 1000))
def test_it_is_zero_at_the_ratio_and_at_most_two(num_modalities, seed):
    share = torch.rand(5, num_modalities, generator=torch.Generator().manual_seed(seed)).softmax(-1)
    counted = torch.ones(5, dtype=torch.bool)
    assert regularization(share, counted, share.mean(0)) < 1e-6
    corner = torch.eye(num_modalities)[0]
    assert 0 <= regularization(share, counted, corner) <= 2


def test_it_and_its_gradient_are_zero_if_no_clip_counts():
    share = torch.zeros(3, 2, requires_grad=True)
    value = regularization(share, torch.zeros(3, dtype=torch.bool), torch.tensor([0.5, 0.5]))
    value.backward()
    assert value == 0
    assert torch.equal(share.grad, torch.zeros(3, 2))
