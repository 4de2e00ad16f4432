"""Permutation shares: against a loop over clips in float64, and where they must be exact."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from torch import nn

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.attribution.permutation import jensen_shannon, of_partners, partners_with
from amr.fusion.attribution.regularizer import AttributionRegularizer, regularization
from amr.fusion.attribution.share import mean_share
from amr.fusion.heads import heads

from .conftest import make

PERMUTATION = Attributor(attribution="permutation")


def share_of(head, z, present, partners):
    _, divergence, counted = PERMUTATION.shares(head, z, present, partners=partners)
    return mean_share(divergence, counted, of_sums=True)


def test_the_divergence_is_scipy_s():
    draws = torch.Generator().manual_seed(0)
    a, b = (3 * torch.randn(20, 5, generator=draws, dtype=torch.float64) for _ in range(2))
    expected = [jensenshannon(p, q) ** 2 for p, q in zip(a.softmax(-1).numpy(), b.softmax(-1).numpy(), strict=True)]
    np.testing.assert_allclose(jensen_shannon(a, b).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("size", [1.0, 1e-2, 1e-3])
def test_the_divergence_of_close_predictions_is_not_lost_in_rounding(size):
    draws = torch.Generator().manual_seed(1)
    a = 3 * torch.randn(50, 6, generator=draws)
    b = a + size * torch.randn(50, 6, generator=draws)
    rounded = jensen_shannon(a, b)
    torch.testing.assert_close(rounded.double(), jensen_shannon(a.double(), b.double()), rtol=5e-3, atol=1e-11)


def test_the_divergence_of_certain_predictions_is_finite_and_so_is_its_gradient():
    logits = torch.tensor([[200.0, -200.0], [0.0, 0.0]], requires_grad=True)
    divergence = jensen_shannon(logits, torch.tensor([[-200.0, 200.0], [0.0, 0.0]]))
    torch.testing.assert_close(divergence.detach(), torch.tensor([math.log(2), 0.0]))
    divergence.sum().backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    "name",
    [name for name in heads if heads[name].listed],
)
@pytest.mark.parametrize("dims", [{"audio": 4, "video": 3}, {"a": 2, "b": 3, "c": 4}])
def test_shares_are_those_of_a_loop_over_clips(name, dims):
    head, z, present = make(name, hidden=8, dims=dims, runs=2)
    present[:, 1, 0] = False
    z = {m: v * present[..., i, None] for i, (m, v) in enumerate(z.items())}
    partners = torch.tensor([3, 0, 1, 2, 6, 4, 5]).expand(2, -1)
    expected = torch.zeros(2, len(dims), dtype=torch.float64)
    logits = head(z, present)
    for run in range(2):
        for i in range(7):
            for k, m in enumerate(z):
                partner = int(partners[run, i])
                if not (present[run, i, k] and present[run, partner, k]) or present[run, i].sum() < 2:
                    continue
                changed = {name: v.clone() for name, v in z.items()}
                changed[m][run, i] = z[m][run, partner]
                expected[run, k] += jensen_shannon(logits, head(changed, present))[run, i]
    torch.testing.assert_close(share_of(head, z, present, partners), expected / expected.sum(-1, keepdim=True))


def test_a_modality_without_weight_has_no_share_and_equal_ones_have_the_same():
    torch.manual_seed(0)
    weight = torch.randn(3, 4, dtype=torch.float64)
    x = torch.randn(12, 4, dtype=torch.float64)
    partners, present = torch.arange(12).roll(1), torch.ones(12, 2, dtype=torch.bool)
    z = {"a": x, "b": torch.randn(12, 4, dtype=torch.float64)}
    torch.testing.assert_close(
        share_of(lambda z: z["a"] @ weight.T + 0 * z["b"].sum(-1, keepdim=True), z, present, partners),
        torch.tensor([1.0, 0.0], dtype=torch.float64),
    )
    same = share_of(lambda z: (z["a"] + z["b"]) @ weight.T, {"a": x, "b": x}, present, partners)
    torch.testing.assert_close(same, torch.tensor([0.5, 0.5], dtype=torch.float64))


def test_the_order_of_clips_does_not_matter():
    head, z, present = make("gated")
    partners, order = torch.arange(7).roll(2), torch.randperm(7)
    moved = torch.empty(7, dtype=torch.long)
    moved[order] = torch.arange(7)
    reordered = share_of(head, {m: v[:, order] for m, v in z.items()}, present[:, order], moved[partners[order]][None])
    torch.testing.assert_close(reordered, share_of(head, z, present, partners[None]))


def test_partners_that_lack_the_modality_are_replaced_by_the_clip_itself():
    present = torch.tensor([True, False, True, True])
    assert partners_with(present, torch.tensor([1, 2, 3, 0])).tolist() == [0, 1, 3, 0]
    values = torch.arange(8).view(4, 2)
    assert of_partners(values, torch.tensor([1, 0, 3, 2])).tolist() == [[2, 3], [0, 1], [6, 7], [4, 5]]


@pytest.mark.parametrize("num_clips", [1, 5])
def test_r_is_zero_with_zero_gradient_where_no_prediction_moves(num_clips):
    torch.manual_seed(0)
    head = nn.Linear(4, 3)
    x = torch.ones(num_clips, 2)
    regularizer = AttributionRegularizer("1:4", PERMUTATION)
    with pytest.warns(UserWarning, match="no clip has a share") if num_clips > 1 else torch.enable_grad():
        value = regularizer(lambda z: head(torch.cat([z["a"], z["v"]], -1)), {"a": x, "v": x})
    assert value == 0
    value.backward()
    assert (head.weight.grad == 0).all()


@pytest.mark.filterwarnings("error")
def test_clips_without_a_partner_are_no_reason_for_a_warning():
    """Their divergence is 0 whatever the head does."""
    torch.manual_seed(0)
    head = nn.Linear(4, 3)
    z, present = {m: torch.randn(6, 2) for m in ("a", "v")}, torch.ones(6, 2, dtype=torch.bool)
    present[1:, 0] = False  # one clip has a, and no other to take it from

    def logits(z):
        return head(torch.cat([z["a"], z["v"]], -1))

    _, divergence, counted = PERMUTATION.shares(logits, z, present, partners=torch.arange(6).roll(1))
    assert counted.tolist() == [True, *[False] * 5]
    assert (divergence[0, 0], divergence[0, 1] > 0) == (0, True)
    for num_clips in (1, 6):
        first = {m: v[:num_clips] for m, v in z.items()}
        _, divergence, counted = PERMUTATION.shares(logits, first, partners=range(num_clips))
        assert not counted.any()
        assert not divergence.any()


@pytest.mark.parametrize("partners", [[0, 1], [0, 1, 2, 4], [-1, 0, 1, 2], [0.0, 1.0, 2.0, 3.0], [[1, 0, 3, 2]] * 2])
def test_wrong_partners_are_refused(partners):
    z = {m: torch.randn(4, 3) for m in ("a", "v")}
    with pytest.raises(ValueError, match=r"partners must be 4 clip numbers from 0 to 3, got .* torch.randperm\(4\)"):
        PERMUTATION.shares(lambda z: z["a"] + z["v"], z, partners=partners)


def test_a_single_clip_must_be_finite_too():
    z = {"a": torch.full((1, 3), torch.nan), "v": torch.ones(1, 3)}
    with pytest.raises(ValueError, match="must be finite, got NaN"):
        PERMUTATION.shares(lambda z: z["a"] + z["v"], z)


def test_one_logit_is_a_binary_decision():
    torch.manual_seed(0)
    layer = nn.Linear(6, 1).double()
    z = {m: torch.randn(9, 3, dtype=torch.float64) for m in ("a", "v")}
    present, partners = torch.ones(9, 2, dtype=torch.bool), torch.arange(9).roll(1)

    def one(z):
        return layer(torch.cat([z["a"], z["v"]], -1))

    def two(z):
        return torch.cat([torch.zeros(9, 1), one(z)], -1)

    torch.testing.assert_close(share_of(one, z, present, partners), share_of(two, z, present, partners))


def test_training_on_it_moves_the_share_and_needs_no_second_derivative():
    torch.manual_seed(0)

    class Once(torch.autograd.Function):
        """An operation without a second derivative."""

        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.tanh()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad * (1 - x.tanh() ** 2)

    first, last = nn.Linear(8, 16), nn.Linear(16, 3)
    z = {m: torch.randn(64, 4) for m in ("a", "v")}
    regularizer = AttributionRegularizer("9:1", PERMUTATION)
    optimizer = torch.optim.Adam([*first.parameters(), *last.parameters()], lr=1e-2)
    for _ in range(200):
        value = regularizer(lambda z: last(Once.apply(first(torch.cat([z["a"], z["v"]], -1)))), z)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert value < 0.05


def test_the_level_of_clips_is_the_mean_of_their_distances_and_not_for_permutation():
    share = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.0, 0.0]])
    counted, ratio = torch.tensor([True, True, False]), torch.tensor([0.5, 0.5])
    assert regularization(share, counted, ratio) == 0
    assert regularization(share, counted, ratio, level="clip") == pytest.approx(0.8)
    with pytest.raises(ValueError, match="level must be batch for permutation"):
        AttributionRegularizer("1:1", PERMUTATION, level="clip")
    with pytest.raises(ValueError, match=r"level must be one of batch, clip, got 'clips'\. Did you mean clip"):
        AttributionRegularizer("1:1", level="clips")


def test_the_gradient_of_the_divergence_is_that_of_finite_differences():
    draws = torch.Generator().manual_seed(0)
    both = [torch.randn(3, 4, 5, dtype=torch.double, generator=draws).requires_grad_() for _ in range(2)]
    assert torch.autograd.gradcheck(jensen_shannon, both)
