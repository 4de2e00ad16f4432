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
def test_it_is_the_norm_of_gradient_x_input_and_so_is_its_gradient(shared, each, num_classes, seed):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(shared, 5, 7, generator=generator, dtype=torch.float64)
    weight = torch.randn(shared * each, num_classes, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    u = torch.randn(shared * each, 5, num_classes, generator=generator, dtype=torch.float64, requires_grad=True)
    direct = ((u @ weight) * of_runs(z, shared * each)).norm(dim=-1)
    wanted = torch.autograd.grad(direct.square().sum(), (weight, u))
    for way in (quadratic, dense_magnitude):
        ours = way(z, weight, u)
        torch.testing.assert_close(ours, direct)
        for left, right in zip(torch.autograd.grad(ours.square().sum(), (weight, u)), wanted, strict=True):
            torch.testing.assert_close(left, right)


@pytest.mark.parametrize("num_classes", [2, 6])
@pytest.mark.parametrize("zero_sum", [False, True])
def test_modalities_of_other_sizes_are_taken_at_once(num_classes, zero_sum):
    z = [torch.randn(2, 4, dim).double() for dim in (5, 3, 7)]
    weights = [torch.randn(6, num_classes, x.shape[-1]).double().requires_grad_() for x in z]
    raw = torch.randn(6, 4, num_classes).double().requires_grad_()
    u = raw - raw.mean(-1, keepdim=True) if zero_sum else raw
    pull = torch.randn(6, 4, 3).double()
    results = []
    for norms in (
        torch.stack([dense_magnitude(x, w, u) for x, w in zip(z, weights, strict=True)], dim=-1),
        quadratic_magnitudes(z, weights, u, zero_sum=zero_sum),
    ):
        results.append([norms, *torch.autograd.grad((norms * pull).sum(), [raw, *weights], retain_graph=True)])
    for dense, closed in zip(*results, strict=True):
        torch.testing.assert_close(closed, dense)


@pytest.mark.parametrize("num_classes", [2, MAX_CLASSES, MAX_CLASSES + 1])
@pytest.mark.parametrize("zero_sum", [False, True])
@pytest.mark.parametrize("shared", [1, 2])
def test_every_way_of_the_dispatcher_agrees(num_classes, zero_sum, shared):
    z, weight = torch.randn(shared, 4, 5).double(), torch.randn(2, num_classes, 5).double()
    u = torch.randn(2, 4, num_classes).double()
    u = u - u.mean(-1, keepdim=True) if zero_sum else u
    torch.testing.assert_close(
        linear_magnitudes([z], [weight], u, zero_sum=zero_sum)[..., 0], (u @ weight * of_runs(z, 2)).norm(dim=-1)
    )


def test_zero_has_no_gradient_and_no_nan():
    weight = torch.randn(1, 3, 4, requires_grad=True)
    for way in (quadratic, dense_magnitude):
        way(torch.zeros(1, 2, 4), weight, torch.randn(1, 2, 3)).sum().backward()
        assert torch.equal(weight.grad, torch.zeros(1, 3, 4))


@pytest.mark.parametrize("shared", [1, 2, 6])
def test_runs_that_share_an_input_get_what_they_would_get_alone(shared):
    x, layer = torch.randn(shared, 5, 7), StackedLinear(7, 3, Draws(range(6)))
    torch.testing.assert_close(layer(x), layer(of_runs(x, 6)))
    torch.testing.assert_close(shared_bmm(x, layer.weight), of_runs(x, 6) @ layer.weight.mT)
