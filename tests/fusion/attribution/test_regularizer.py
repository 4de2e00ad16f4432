import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.attribution.regularizer import AttributionRegularizer, regularization


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


class Model(nn.Module):
    """A model that keeps the regularizer."""

    def __init__(self, ratio=None):
        super().__init__()
        self.head = nn.Linear(2, 2)
        if ratio is not None:
            self.regularizer = AttributionRegularizer(ratio)


def test_checkpoints_load_strictly_and_the_requested_ratio_wins():
    model = Model("4:1")
    assert not any("ratio" in name for name in model.state_dict())
    model.load_state_dict(Model().state_dict())
    model.load_state_dict(Model("1:1").state_dict())
    older = Model().state_dict() | {"regularizer.ratio": torch.tensor([0.5, 0.5])}  # as saved by version 0.1
    model.load_state_dict(older)
    AttributionRegularizer("4:1").load_state_dict({"ratio": torch.tensor([0.5, 0.5])})
    torch.testing.assert_close(model.regularizer.ratio, torch.tensor([0.8, 0.2]))
    with pytest.raises(RuntimeError, match="Unexpected key"):
        model.load_state_dict(older | {"regularizer.other": torch.zeros(1)})


def test_other_precisions_do_not_round_the_ratio():
    regularizer = AttributionRegularizer("4:1").half().float()
    assert regularizer.ratio.tolist() == AttributionRegularizer("4:1").ratio.tolist()
    assert pickle.loads(pickle.dumps(regularizer)).ratio.tolist() == regularizer.ratio.tolist()


@pytest.mark.parametrize("ratio", [(3, 1), [3.0, 1], "3:1", np.array([3, 1]), torch.tensor([3.0, 1.0]), (0.75, 0.25)])
def test_a_ratio_in_order_may_be_text_or_numbers(ratio):
    assert AttributionRegularizer(ratio).ratio.tolist() == [0.75, 0.25]


def test_names_of_modalities_may_hold_any_character():
    z = {"a:b": torch.randn(4, 3), "c=d": torch.randn(4, 2)}
    layer = nn.Linear(5, 3)

    def head(z):
        return layer(torch.cat([*z.values()], -1))

    named = AttributionRegularizer({"c=d": 1, "a:b": 3})(head, z)
    assert torch.equal(named, AttributionRegularizer("3:1")(head, z))


@pytest.mark.parametrize(
    ("ratio", "message"),
    [
        (None, "ratio must be text, numbers, or numbers by name, got None"),
        (1, "ratio must be text, numbers, or numbers by name, got 1"),
        ("1", "ratio must have at least two parts"),
        ({"audio": 3}, "ratio must have at least two parts"),
        ({"audio": "x", "video": 1}, "ratio must be text, numbers, or numbers by name"),
        ((1, -1), "ratio must have finite parts of 0 or more"),
        ("0:0", "ratio must have a part above 0"),
        ("audio=1:1", "ratio must name every modality or none"),
    ],
)
def test_other_ratios_are_refused_by_name(ratio, message):
    with pytest.raises(ValueError, match=message) as caught:
        AttributionRegularizer(ratio)
    assert "--" not in str(caught.value)


def test_r_without_a_gradient_is_said():
    frozen = nn.Linear(5, 3).requires_grad_(False)
    z = {"a": torch.randn(4, 3), "b": torch.randn(4, 2)}
    with pytest.warns(UserWarning, match="R has no gradient"):
        AttributionRegularizer("1:1", Attributor(attribution="shapley"))(
            lambda z: frozen(torch.cat([*z.values()], -1)), z
        )


def test_the_mean_may_be_that_of_the_train_clips():
    draws = torch.Generator().manual_seed(0)
    z = {"a": torch.randn(8, 3, generator=draws) + 1, "b": torch.randn(8, 2, generator=draws)}
    layer, mean = nn.Linear(5, 3), {m: v.mean(0) for m, v in z.items()}
    attributor = Attributor(attribution="shapley", baseline="mean")

    def head(z):
        return layer(torch.cat([*z.values()], -1))

    _, together, _ = attributor.shares(head, z)
    _, alone, counted = attributor.shares(head, {m: v[:1] for m, v in z.items()}, mean=mean)
    assert counted.all()
    torch.testing.assert_close(alone[0], together[0])
    value = AttributionRegularizer("1:1", attributor)(head, {m: v[:1] for m, v in z.items()}, mean=mean)
    torch.testing.assert_close(value, (alone[0] - 0.5).abs().sum())


def test_it_keeps_the_mean_shares_of_the_last_batch_without_a_graph():
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 3)
    z = {"audio": torch.randn(4, 5), "video": torch.randn(4, 3)}
    regularizer = AttributionRegularizer("audio=1:video=4")
    assert regularizer.share == {}
    value = regularizer(lambda z: head(torch.cat([*z.values()], dim=-1)), z)
    share = regularizer.share
    assert share.keys() == z.keys()
    assert not any(each.requires_grad for each in share.values())
    assert value.item() == pytest.approx(abs(share["audio"].item() - 0.2) + abs(share["video"].item() - 0.8), abs=1e-6)
    assert not regularizer.state_dict()


def test_an_attribution_may_be_named():
    named = AttributionRegularizer("1:1", "permutation")
    assert named.attributor == Attributor(attribution="permutation")
    with pytest.raises(ValueError, match="Did you mean permutation"):
        AttributionRegularizer("1:1", "permutaton")
    with pytest.raises(ValueError, match="attributor must be an Attributor or the name of an attribution, got int"):
        AttributionRegularizer("1:1", 3)
