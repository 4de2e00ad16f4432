import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.heads import HeadShape, heads
from amr.fusion.run_axis import closed_form
from amr.fusion.run_axis.axes import of_runs
from amr.fusion.run_axis.closed_form import MAX_CLASSES, dense_magnitudes, linear_magnitudes, quadratic_magnitudes
from amr.fusion.run_axis.layers import StackedLinear
from amr.fusion.run_axis.seeds import Draws


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
    for function in (quadratic_magnitudes, dense_magnitudes):
        norm = function([z], weight, u)[..., 0]
        torch.testing.assert_close(norm, expected)
        for left, right in zip(torch.autograd.grad(norm.square().sum(), (weight, u)), expected_gradients, strict=True):
            torch.testing.assert_close(left, right)


@pytest.mark.parametrize("num_classes", [2, 6])
@pytest.mark.parametrize("zero_sum", [False, True])
def test_modalities_may_have_different_sizes(num_classes, zero_sum):
    z = [torch.randn(2, 4, dim).double() for dim in (5, 3, 7)]
    weight = torch.randn(6, num_classes, 15).double().requires_grad_()
    raw = torch.randn(6, 4, num_classes).double().requires_grad_()
    u = raw - raw.mean(-1, keepdim=True) if zero_sum else raw
    grad_norms = torch.randn(6, 4, 3).double()
    results = []
    for norms in (
        torch.cat([dense_magnitudes([x], w, u) for x, w in zip(z, weight.split([5, 3, 7], -1), strict=True)], dim=-1),
        dense_magnitudes(z, weight, u),
        quadratic_magnitudes(z, weight, u, zero_sum=zero_sum),
    ):
        results.append([norms, *torch.autograd.grad((norms * grad_norms).sum(), [raw, weight], retain_graph=True)])
    for apart, *together in zip(*results, strict=True):
        for each in together:
            torch.testing.assert_close(each, apart)


@pytest.mark.parametrize("num_classes", [2, MAX_CLASSES, MAX_CLASSES + 1])
@pytest.mark.parametrize("zero_sum", [False, True])
@pytest.mark.parametrize("shared", [1, 2])
def test_both_branches_give_the_same_norms(num_classes, zero_sum, shared):
    z, weight = torch.randn(shared, 4, 5).double(), torch.randn(2, num_classes, 5).double()
    u = torch.randn(2, 4, num_classes).double()
    u = u - u.mean(-1, keepdim=True) if zero_sum else u
    torch.testing.assert_close(
        linear_magnitudes([z], weight, u, zero_sum=zero_sum)[..., 0], (u @ weight * of_runs(z, 2)).norm(dim=-1)
    )


def test_zero_has_no_gradient_and_no_nan():
    weight = torch.randn(1, 3, 4, requires_grad=True)
    for function in (quadratic_magnitudes, dense_magnitudes):
        function([torch.zeros(1, 2, 4)], weight, torch.randn(1, 2, 3)).sum().backward()
        assert torch.equal(weight.grad, torch.zeros(1, 3, 4))


@pytest.mark.parametrize("shared", [1, 2, 6])
def test_a_shared_input_equals_a_repeated_input(shared):
    x, layer = torch.randn(shared, 5, 7), StackedLinear(7, 3, Draws(range(6)))
    torch.testing.assert_close(layer(x), layer(of_runs(x, 6)))
    torch.testing.assert_close(layer(x), of_runs(x, 6) @ layer.weight.mT + layer.bias.unsqueeze(1))


@pytest.mark.parametrize("factor", [1, 100, 1e4])
@pytest.mark.parametrize(("num_classes", "large"), [(2, 1), (3, 0), (3, 2), (6, 0), (6, 3), (6, 5)])
@pytest.mark.parametrize("name", ["concat", "sum"])
def test_shares_are_exact_in_float32_where_one_class_dwarfs_the_others(name, num_classes, large, factor):
    dims, draws = {"audio": 20, "video": 15}, torch.Generator().manual_seed(0)
    head = heads[name](HeadShape(dims, num_classes), Draws([0, 0, 0]))
    z = {m: torch.randn(1, 12, dim, generator=draws) for m, dim in dims.items()}  # shared: the quadratic form
    with torch.no_grad():
        for parameter in head.parameters():
            if parameter.ndim == 3:
                parameter.copy_(torch.randn(parameter.shape, generator=draws))
                parameter[:, large] *= factor
            else:
                parameter.zero_()
                parameter[:, large] = -40 * factor / (1 if name == "concat" else 2)  # the large class is never chosen
    reference = heads[name](HeadShape(dims, num_classes), Draws([0, 0, 0])).double()
    reference.load_state_dict(head.state_dict())
    results = []
    for each, inputs, function in (
        (head, z, head),
        (reference, {m: of_runs(x.double(), 3) for m, x in z.items()}, lambda z, present: reference(z, present)),
    ):
        present = torch.ones(3, 12, 2, dtype=torch.bool)
        _, share, counted = Attributor().shares(function, inputs, present, create_graph=True)
        assert counted.all()
        gradients = torch.autograd.grad(
            (share[..., 0] - 0.3).abs().sum(), list(each.parameters()), materialize_grads=True
        )
        results.append([share, *gradients])
    largest = max(float(exact.detach().abs().amax()) for exact in results[1])
    for ours, exact in zip(*results, strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=1e-4, atol=2e-6 * largest)


@pytest.mark.parametrize("row", [0, 2, 4])
def test_any_row_may_be_the_one_that_is_subtracted(row, monkeypatch):
    monkeypatch.setattr(closed_form, "_central_rows", lambda weight, sizes: torch.full((len(weight), 1), row))
    z, weight = [torch.randn(1, 4, 6).double()], torch.randn(3, 5, 6).double().requires_grad_()
    u = (torch.randn(3, 4, 5).double().softmax(-1) - 0.2).requires_grad_()
    expected = (u @ weight * of_runs(z[0], 3)).norm(dim=-1)
    ours = quadratic_magnitudes(z, weight, u, zero_sum=True)[..., 0]
    torch.testing.assert_close(ours, expected)
    (theirs,) = torch.autograd.grad(expected.sum(), weight)
    (mine,) = torch.autograd.grad(ours.sum(), weight)
    torch.testing.assert_close(mine, theirs)
