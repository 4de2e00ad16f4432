from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amr.fusion.attribution.shapley import shapley_split, subset_logits, subsets, unimodal_logits
from amr.fusion.heads import HeadShape, heads
from amr.fusion.run_axis.seeds import Draws


@given(st.integers(1, 5), st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_the_split_is_the_mean_gain_over_all_orders(num_modalities, seed):
    """Shapley's definition: the mean gain from adding m, over all orders."""
    values = torch.randn(2**num_modalities, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    index = {subset: i for i, subset in enumerate(subsets(num_modalities))}
    expected = torch.zeros(num_modalities, 3, dtype=torch.float64)
    orders = list(permutations(range(num_modalities)))
    for order in orders:
        in_subset = [False] * num_modalities
        for m in order:
            before = values[index[tuple(in_subset)]]
            in_subset[m] = True
            expected[m] += (values[index[tuple(in_subset)]] - before) / len(orders)
    torch.testing.assert_close(shapley_split(values), expected)


def make(name, dims, hidden=0):
    head = heads[name](HeadShape(dims, 4, hidden), Draws([0, 1])).double()
    z = {m: torch.randn(2, 5, dim, dtype=torch.float64) for m, dim in dims.items()}
    return head, z, torch.ones(2, 5, len(dims), dtype=torch.bool)


@given(
    st.sampled_from([name for name in heads if heads[name].listed]),
    st.integers(1, 3),
)
@settings(max_examples=30, deadline=None)
def test_unimodal_logits_sum_to_the_joint_ones_for_every_head(name, num_modalities):
    head, z, present = make(name, {f"m{i}": 3 + i for i in range(num_modalities)}, hidden=8)
    torch.testing.assert_close(unimodal_logits(head, z, present).sum(0), head(z, present))


def test_for_linear_heads_they_are_w_z_plus_an_equal_fraction_of_the_bias():
    head, z, present = make("concat", {"a": 3, "b": 4, "c": 2})
    out = unimodal_logits(head, z, present)
    weights = head.classifier.weight.split([3, 4, 2], -1)
    for m, (x, weight) in enumerate(zip(z.values(), weights, strict=True)):
        expected = x @ weight.mT + head.classifier.bias[:, None] / 3
        torch.testing.assert_close(out[m], expected)
    head, z, present = make("sum", {"a": 3, "b": 4})
    bias = sum(layer.bias for layer in head.classifiers)
    for m, (x, layer) in enumerate(zip(z.values(), head.classifiers, strict=True)):
        torch.testing.assert_close(unimodal_logits(head, z, present)[m], x @ layer.weight.mT + bias[:, None] / 2)


def test_for_two_modalities_they_are_agm_s():
    head, z, present = make("concat", {"a": 3, "b": 4}, hidden=6)
    none = {m: torch.zeros_like(v) for m, v in z.items()}
    a, b = {**none, "a": z["a"]}, {**none, "b": z["b"]}
    expected = (head(z, present) - head(b, present) + head(a, present)) / 2
    torch.testing.assert_close(unimodal_logits(head, z, present)[0], expected)


def test_the_baseline_replaces_absent_modalities_and_they_are_marked_absent():
    z = {"a": torch.ones(1, 2, 3), "b": torch.ones(1, 2, 3)}
    seen = []

    def head(z, present):
        seen.append((z["a"][0, 0, 0].item(), z["b"][0, 0, 0].item(), present[0, 0].tolist()))
        return torch.zeros(1, 2, 2)

    subset_logits(head, z, torch.tensor([[[True, False]] * 2]), {"a": torch.tensor(7.0), "b": torch.tensor(8.0)})
    # the clip lacks b: the baseline replaces it in every subset
    assert seen == [(7, 8, [False, False]), (7, 8, [False, False]), (1, 8, [True, False]), (1, 8, [True, False])]


@pytest.mark.parametrize("hidden", [0, 8])
@pytest.mark.parametrize("name", ["concat", "sum", "cosine"])
@pytest.mark.parametrize("with_baseline", [False, True])
def test_logits_of_subsets_are_those_of_a_pass_for_each(name, hidden, with_baseline):
    """With more than two modalities, those of a head that adds its modalities up are sums of two passes."""
    head, z, present = make(name, {"a": 3, "b": 4, "c": 2}, hidden)
    present[0, :2, 1] = present[1, 3, 0] = False
    z = {m: x * present[..., i, None] for i, (m, x) in enumerate(z.items())}
    baseline = {m: x.mean(1, keepdim=True) for m, x in z.items()} if with_baseline else None
    found = subset_logits(head, z, present, baseline)
    torch.testing.assert_close(found, subset_logits(lambda z, present: head(z, present), z, present, baseline))
