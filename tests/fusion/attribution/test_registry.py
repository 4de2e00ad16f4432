"""Checks of every registered attribution."""

from __future__ import annotations

import pytest
import torch

from amr.fusion.attribution.attributor import Attributor, attributions
from amr.fusion.attribution.share import mean_share
from amr.fusion.heads import HeadShape, heads
from amr.fusion.run_axis.seeds import Draws

DIMS = {"audio": 4, "video": 3}
NAMES = list(attributions)
every_attribution = pytest.mark.parametrize("name", NAMES)


def make_head(name="gated", seeds=(0, 1), dims=DIMS):
    return heads[name](HeadShape(dims, 3, 8), Draws(seeds)).double()


def make_z(num_runs=2, num_clips=6, dims=DIMS):
    draws = torch.Generator().manual_seed(0)
    return {m: torch.randn(num_runs, num_clips, d, generator=draws, dtype=torch.float64) for m, d in dims.items()}


def shares_of(attributor, head, z, present, **options):
    """Shares with the clip before as each clip's partner."""
    partners = torch.arange(present.shape[1]).roll(1).expand(len(present), -1)
    return attributor.shares(head, z, present, partners=partners, **options)


def all_present(z):
    first = next(iter(z.values()))
    return torch.ones(*first.shape[:2], len(z), dtype=torch.bool)


@every_attribution
def test_it_has_summary_label_and_citation(name):
    attribution = attributions[name]
    assert attribution.summary
    assert attribution.label
    assert attribution.citation


@every_attribution
@pytest.mark.parametrize("baseline", ["zero", "mean"])
@pytest.mark.parametrize("output", ["probability", "logit", "centered"])
def test_shares_are_fractions_that_sum_to_one_and_logits_are_the_head_s(name, output, baseline):
    head, z = make_head(), make_z()
    if output != "probability" and not attributions[name].uses_output:
        with pytest.raises(ValueError, match=f"output must be probability for {name}, got {output}"):
            Attributor(output, attribution=name)
        return
    attributor = Attributor(output, attribution=name, baseline=baseline)
    logits, share, counted = shares_of(attributor, head, z, all_present(z))
    torch.testing.assert_close(logits, head(z, all_present(z)))
    assert counted.all()
    assert (share >= 0).all()
    if attributor.uses_partners:
        total = mean_share(share, counted, of_sums=True).sum(-1)
        torch.testing.assert_close(total, torch.ones(2, dtype=torch.float64))
    else:
        torch.testing.assert_close(share.sum(-1), torch.ones(2, 6, dtype=torch.float64))


@every_attribution
def test_a_run_of_a_group_equals_the_same_run_by_itself(name):
    head, z = make_head(seeds=(0, 5)), make_z()
    group = shares_of(Attributor(attribution=name), head, z, all_present(z))
    for run, seed in enumerate((0, 5)):
        one = {m: value[run : run + 1] for m, value in z.items()}
        single = shares_of(Attributor(attribution=name), make_head(seeds=(seed,)), one, all_present(one))
        for ours, theirs in zip(single, group, strict=True):
            torch.testing.assert_close(ours[0], theirs[run])


@every_attribution
def test_runs_may_share_their_clips(name):
    head, z = make_head("concat", seeds=(0, 0, 1, 1)), make_z(num_runs=2)
    whole = {m: value.repeat_interleave(2, dim=0) for m, value in z.items()}
    present = all_present(whole)
    for baseline in ("zero", "mean"):
        attributor = Attributor(attribution=name, baseline=baseline)
        shared, repeated = (shares_of(attributor, head, values, present) for values in (z, whole))
        for ours, theirs in zip(shared, repeated, strict=True):
            torch.testing.assert_close(ours, theirs)


@every_attribution
def test_an_absent_modality_has_no_share_and_a_clip_with_one_is_left_out(name):
    dims = {"a": 3, "b": 2, "c": 4}
    head, z = make_head(dims=dims), make_z(dims=dims)
    present = all_present(z)
    present[:, 0, 1] = False
    present[:, 1, 1:] = False
    z = {m: value * present[..., i, None] for i, (m, value) in enumerate(z.items())}
    _, share, counted = shares_of(Attributor(attribution=name), head, z, present)
    assert (share[:, 0, 1] == 0).all()
    assert counted[0].tolist() == [True, False, True, True, True, True]


@every_attribution
def test_a_loss_on_the_shares_trains_the_head_and_nothing_before_it(name):
    head = make_head()
    z = {m: value.requires_grad_() for m, value in make_z().items()}
    _, share, _ = shares_of(Attributor(attribution=name), head, z, all_present(z), create_graph=True)
    share[..., 0].sum().backward()
    assert all(value.grad is None for value in z.values())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())


@every_attribution
def test_without_a_graph_nothing_has_one(name):
    head, z = make_head(), make_z()
    assert not any(result.requires_grad for result in shares_of(Attributor(attribution=name), head, z, all_present(z)))


def test_unknown_names_are_refused_at_once():
    for wrong in ({"output": "prob"}, {"pooling": "l3"}, {"attribution": "shapely"}, {"baseline": "noise"}):
        (name,) = wrong
        with pytest.raises(ValueError, match=rf"{name} must be one of .*, got '{wrong[name]}'"):
            Attributor(**wrong)
    with pytest.raises(ValueError, match="num_points must be 1 or more, got 0"):
        Attributor(num_points=0)
