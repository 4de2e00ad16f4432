import pytest
import torch

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.heads import HeadShape, heads
from amr.fusion.run_axis import closed_form
from amr.fusion.run_axis.axes import of_runs
from amr.fusion.run_axis.closed_form import linear_magnitudes
from amr.fusion.run_axis.layers import StackedLinear
from amr.fusion.run_axis.seeds import Draws


@pytest.fixture(params=["whole", "blocks", "kept"])
def way(request, monkeypatch):
    """All runs at once, in blocks of 2 runs of 5 clips and 7 dimensions, and with g kept for the backward pass."""
    if request.param == "blocks":
        monkeypatch.setattr(closed_form, "BLOCK_NUMBERS", 2 * 5 * 7)
    elif request.param == "kept":
        monkeypatch.setattr(closed_form, "FEW_ROWS", 0)


@pytest.mark.parametrize("num_classes", [1, 2, 6])
@pytest.mark.parametrize("runs_per_input", [1, 2, 3])
@pytest.mark.parametrize("shared", [1, 2, 5])
def test_norms_and_their_gradients_equal_those_of_autograd(shared, runs_per_input, num_classes, way):
    draws = torch.Generator().manual_seed(0)
    z = [torch.randn(shared, 5, dim, generator=draws, dtype=torch.float64) for dim in (3, 4)]
    num_runs = shared * runs_per_input
    weight = torch.randn(num_runs, num_classes, 7, generator=draws, dtype=torch.float64, requires_grad=True)
    u = torch.randn(num_runs, 5, num_classes, generator=draws, dtype=torch.float64, requires_grad=True)
    products = ((u @ weight) * of_runs(torch.cat(z, dim=-1), num_runs)).split([3, 4], dim=-1)
    expected = torch.stack([product.norm(dim=-1) for product in products], dim=-1)
    ours = linear_magnitudes(z, weight, u)
    torch.testing.assert_close(ours, expected)
    cotangent = torch.randn(expected.shape, generator=draws, dtype=torch.float64)
    gradients = (torch.autograd.grad(norm, (weight, u), cotangent) for norm in (ours, expected))
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right)


def test_zero_has_no_gradient_and_no_nan(way):
    weight = torch.randn(1, 3, 4, requires_grad=True)
    linear_magnitudes([torch.zeros(1, 2, 4)], weight, torch.randn(1, 2, 3)).sum().backward()
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
    z = {m: torch.randn(1, 12, dim, generator=draws) for m, dim in dims.items()}
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
