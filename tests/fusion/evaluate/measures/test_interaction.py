from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from amr.fusion.attribution.shapley import subsets
from amr.fusion.evaluate.measures.interaction import Interaction, interaction_indices, interaction_share

from ..conftest import logits_of, make_subject, parts_or_none

VALUES = st.floats(-10, 10, allow_nan=False, width=32)


def by_permutations(values, num_modalities):
    """Shapley values and interaction indices from the orders in which players arrive; a pair arrives as one."""
    v = {frozenset(np.flatnonzero(s)): x for s, x in zip(subsets(num_modalities), values, strict=True)}
    players = range(num_modalities)

    def mean_over_orders(units, unit, gain):
        orders = list(permutations(units))
        return np.mean([gain(frozenset().union(*order[: order.index(unit)])) for order in orders])

    phi = []
    for i in players:
        single = [frozenset([k]) for k in players]
        phi.append(mean_over_orders(single, frozenset([i]), lambda s, i=i: v[s | {i}] - v[s]))
    index = {}
    for pair in combinations(players, 2):
        i, j = pair
        units = [frozenset(pair), *(frozenset([k]) for k in players if k not in pair)]
        index[pair] = mean_over_orders(
            units, frozenset(pair), lambda s, i=i, j=j: v[s | {i, j}] - v[s | {i}] - v[s | {j}] + v[s]
        )
    return np.array(phi), index


@pytest.mark.parametrize("num_modalities", [2, 3, 4])
def test_indices_and_share_agree_with_permutations(num_modalities):
    values = torch.randn(2**num_modalities, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    indices, share = interaction_indices(values), interaction_share(values)
    for clip in range(5):
        phi, index = by_permutations(values[:, clip].numpy(), num_modalities)
        np.testing.assert_allclose(indices[:, clip], list(index.values()), atol=1e-12)
        main = [phi[i] - sum(x for pair, x in index.items() if i in pair) / 2 for i in range(num_modalities)]
        joint = np.abs(list(index.values())).sum()
        assert float(share[clip]) == pytest.approx(joint / (joint + np.abs(main).sum()), abs=1e-12)


@given(st.tuples(VALUES, VALUES, VALUES, VALUES))
def test_two_modalities_have_a_closed_form(v):
    nothing, second, first, both = v
    joint = abs(both - first - second + nothing)
    parts = [joint, abs(first - nothing), abs(second - nothing)]
    least = 1e-6 * max(map(abs, v))
    joint, *single = [part if part > least else 0 for part in parts]
    total = joint + sum(single)
    share = float(interaction_share(torch.tensor(v, dtype=torch.float64)))
    assert share == pytest.approx(joint / total, abs=1e-9) if total else np.isnan(share)


def test_xor_is_interaction_alone():
    assert float(interaction_share(torch.tensor([0.5, 0.5, 0.5, 1.0]))) == 1
    assert float(interaction_share(torch.tensor([0.5] * 3 + [0.0]))) == 1


@pytest.mark.parametrize("num_modalities", [2, 3, 5])
def test_a_sum_has_no_interaction(num_modalities):
    parts = torch.randn(num_modalities, 20, generator=torch.Generator().manual_seed(0))
    values = torch.stack([7 + parts[list(subset)].sum(0) for subset in subsets(num_modalities)])
    assert (interaction_share(values) == 0).all()


def test_an_output_that_never_changes_has_no_share():
    assert interaction_share(torch.ones(4, 2) + torch.rand(4, 2) * 1e-8).isnan().all()


@pytest.mark.parametrize(("head", "hidden"), [("concat", 0), ("sum", 0), ("sum", 6)])
def test_logits_of_additive_heads_have_exactly_no_interaction(head, hidden):
    for dims in ({"audio": 5, "video": 4}, {"a": 5, "b": 4, "c": 3}):
        subject = make_subject(dims, head=head, hidden=hidden)
        result = Interaction().per_clip(subject)
        several = subject.clips.present.sum(-1) > 1
        assert (result["interaction", "logit"][:, several] == 0).all()
        assert (interaction_share(subject.by_subset.logit)[:, several] < 1e-4).all()  # the same without the shortcut
        assert (result["interaction", "probability"][:, several] > 0).all()
        assert result["interaction", "logit"][:, ~several].isnan().all()


@pytest.mark.parametrize(("head", "hidden"), [("concat", 0), ("concat", 6), ("gated", 6)])
def test_both_shares_agree_with_a_literal_loop(head, hidden):
    subject = make_subject({"audio": 5, "video": 4}, num_clips=12, head=head, hidden=hidden)
    result = Interaction().per_clip(subject)
    for run in range(3):
        for i in range(12):
            own = parts_or_none(subject, i)
            if any(part is None for part in own.values()):
                assert result["interaction", "logit"][run, i].isnan()
                continue
            predicted = logits_of(subject, run, own).argmax()
            v = {"logit": [], "probability": []}
            for subset in subsets(2):
                parts = {
                    m: own[m] if known else subject.mean[m].numpy()
                    for m, known in zip(subject.modalities, subset, strict=True)
                }
                logits = logits_of(subject, run, parts)
                v["logit"].append(logits[predicted])
                v["probability"].append((np.exp(logits) / np.exp(logits).sum())[predicted])
            for name, (nothing, second, first, both) in v.items():
                joint = abs(both - first - second + nothing)
                expected = joint / (joint + abs(first - nothing) + abs(second - nothing))
                assert float(result["interaction", name][run, i]) == pytest.approx(expected, abs=1e-4)


def test_cooperation_is_what_the_parts_do_not_add_up_to():
    means = {("accuracy",): 0.9, ("nothing", "mean"): 0.2}
    means |= {("missing", "mean", m): value for m, value in {"a": 0.5, "b": 0.4, "c": 0.3}.items()}
    means = {name: np.array([value]) for name, value in means.items()}
    cooperation = Interaction().derived(means, ("a", "b", "c"))[("cooperation",)]
    np.testing.assert_allclose(cooperation, 0.9 - (0.5 + 0.4 + 0.3) + 2 * 0.2)
