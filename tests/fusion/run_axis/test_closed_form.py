import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amr.fusion.run_axis.axes import of_runs
from amr.fusion.run_axis.closed_form import MAX_CLASSES, dense_magnitude, linear_magnitudes, quadratic_magnitudes
from amr.fusion.run_axis.layers import StackedLinear, shared_bmm
from amr.fusion.run_axis.seeds import Draws


def quadratic(z, weight, u):
    return quadratic_magnitudes([z], [weight], u)[..., 0]


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 6), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_norm_and_its_gradient_equal_those_of_autograd(shared, runs_per_input, num_classes, seed):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(shared, 5, 7, generator=generator, dtype=torch.float64)
    num_runs = shared * runs_per_input
    weight = torch.randn(num_runs, num_classes, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    u = torch.randn(num_runs, 5, num_classes, generator=generator, dtype=torch.float64, requires_grad=True)
    expected = ((u @ weight) * of_runs(z, num_runs)).norm(dim=-1)
    expected_gradients = torch.autograd.grad(expected.square().sum(), (weight, u))
    for function in (quadratic, dense_magnitude):
        norm = function(z, weight, u)
        torch.testing.assert_close(norm, expected)
        for left, right in zip(torch.autograd.grad(norm.square().sum(), (weight, u)), expected_gradients, strict=True):
            torch.testing.assert_close(left, right)


@pytest.mark.parametrize("num_classes", [2, 6])
@pytest.mark.parametrize("zero_sum", [False, True])
def test_modalities_may_have_different_sizes(num_classes, zero_sum):
    z = [torch.randn(2, 4, dim).double() for dim in (5, 3, 7)]
    weights = [torch.randn(6, num_classes, x.shape[-1]).double().requires_grad_() for x in z]
    raw = torch.randn(6, 4, num_classes).double().requires_grad_()
    u = raw - raw.mean(-1, keepdim=True) if zero_sum else raw
    grad_norms = torch.randn(6, 4, 3).double()
    results = []
    for norms in (
        torch.stack([dense_magnitude(x, w, u) for x, w in zip(z, weights, strict=True)], dim=-1),
        quadratic_magnitudes(z, weights, u, zero_sum=zero_sum),
    ):
        results.append([norms, *torch.autograd.grad((norms * grad_norms).sum(), [raw, *weights], retain_graph=True)])
    for dense, closed in zip(*results, strict=True):
        torch.testing.assert_close(closed, dense)


@pytest.mark.parametrize("num_classes", [2, MAX_CLASSES, MAX_CLASSES + 1])
@pytest.mark.parametrize("zero_sum", [False, True])
@pytest.mark.parametrize("shared", [1, 2])
def test_both_branches_give_the_same_norms(num_classes, zero_sum, shared):
    z, weight = torch.randn(shared, 4, 5).double(), torch.randn(2, num_classes, 5).double()
    u = torch.randn(2, 4, num_classes).double()
    u = u - u.mean(-1, keepdim=True) if zero_sum else u
    torch.testing.assert_close(
        linear_magnitudes([z], [weight], u, zero_sum=zero_sum)[..., 0], (u @ weight * of_runs(z, 2)).norm(dim=-1)
    )


def test_zero_has_no_gradient_and_no_nan():
    weight = torch.randn(1, 3, 4, requires_grad=True)
    for function in (quadratic, dense_magnitude):
        function(torch.zeros(1, 2, 4), weight, torch.randn(1, 2, 3)).sum().backward()
        assert torch.equal(weight.grad, torch.zeros(1, 3, 4))


@pytest.mark.parametrize("shared", [1, 2, 6])
def test_a_shared_input_equals_a_repeated_input(shared):
    x, layer = torch.randn(shared, 5, 7), StackedLinear(7, 3, Draws(range(6)))
    torch.testing.assert_close(layer(x), layer(of_runs(x, 6)))
    torch.testing.assert_close(shared_bmm(x, layer.weight), of_runs(x, 6) @ layer.weight.mT)
