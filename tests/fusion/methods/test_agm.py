"""AGM: the formula of the paper in float64, naive training at alpha 0, and running means that outlast an epoch."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from amr.fusion.balance import agm_coefficients, agm_logits, agm_losses
from amr.fusion.data.clips import Clips
from amr.fusion.methods import methods
from amr.fusion.methods.agm import AGMOptions
from amr.fusion.train.recipe import Member

from ..conftest import make_clips
from .conftest import HALF, SEEDS, assert_same, batch_of, build, fit_group, gradients, with_gaps

NONE = torch.full((2,), torch.nan, dtype=torch.float64)


def in_float64(clips):
    batch = batch_of(clips)
    return replace(batch, embeddings={m: e.double() for m, e in batch.embeddings.items()})


def papers_parts(model, batch):
    """(f(a, v) - f(0, v) + f(a, 0)) / 2 and its counterpart."""
    z = model.encode(batch)
    audio, video = z["audio"], z["video"]
    both = model.head(z, batch.present)
    only_audio = model.head({"audio": audio, "video": 0 * video}, batch.present)
    only_video = model.head({"audio": 0 * audio, "video": video}, batch.present)
    return both, [(both - only_video + only_audio) / 2, (both - only_audio + only_video) / 2]


def losses_of(parts, target):
    return torch.stack([cross_entropy(part.movedim(-1, 1), target, reduction="none").mean(-1) for part in parts])


def test_two_batches_are_the_paper_s_formula_in_float64():
    clips = make_clips(30)
    method, model = build("agm", clips, options={"alpha": 1.5}, hidden=4)
    model.double()
    first, second = in_float64(clips.take(torch.arange(12))), in_float64(clips.take(torch.arange(12, 30)))
    s = [losses_of(papers_parts(model, batch)[1], batch.target).detach() for batch in (first, second)]
    mean = (s[0] + s[0] + s[1]) / 3  # the first batch comes twice
    for batch, (audio, video), seen in ((first, s[0], None), (first, s[0], s[0]), (second, s[1], s[0])):
        r = torch.stack([torch.exp(video - audio), torch.exp(audio - video)])
        tau = torch.ones_like(r) if seen is None else torch.exp(torch.stack([seen[1] - seen[0], seen[0] - seen[1]]))
        kappa = torch.exp(1.5 * (tau - r).clamp_max(10))
        loss, found = gradients(method, model, batch)
        both, parts = papers_parts(model, batch)
        expected = cross_entropy(both.movedim(-1, 1), batch.target, reduction="none").mean(-1)
        torch.testing.assert_close(loss, expected.detach(), rtol=1e-9, atol=1e-12)
        (at_logits,) = torch.autograd.grad(expected.sum(), both, retain_graph=True)
        arriving = [k.view(-1, 1, 1) * at_logits for k in kappa]
        names, parameters = zip(*model.named_parameters(), strict=True)
        values = torch.autograd.grad(parts, parameters, arriving)
        assert_same(found, dict(zip(names, values, strict=True)), rtol=1e-9, atol=1e-12)
    state = method.state()
    torch.testing.assert_close(state["total"] / state["num_batches"], mean)


def test_the_stronger_modality_gets_the_smaller_factor():
    kappa = agm_coefficients(torch.tensor([0.6, 1.6], dtype=torch.float64), NONE)
    e = torch.tensor(1.0, dtype=torch.float64).exp()
    torch.testing.assert_close(kappa, torch.stack([torch.exp(1 - e), torch.exp(1 - 1 / e)]))
    assert kappa.round(decimals=2).tolist() == [0.18, 1.88]


def test_swapped_modalities_swap_their_factors_and_alpha_0_has_none():
    losses, running = torch.rand(3, 4), torch.rand(3, 4)
    order = [2, 0, 1]
    kappa = agm_coefficients(losses, running, 2.0)
    torch.testing.assert_close(agm_coefficients(losses[order], running[order], 2.0), kappa[order])
    assert torch.equal(agm_coefficients(losses, running, 0.0), torch.ones(3, 4))


def test_a_modality_without_clips_is_not_compared():
    kappa = agm_coefficients(torch.tensor([0.6, torch.nan, 1.6]), torch.full((3,), torch.nan))
    torch.testing.assert_close(kappa[[0, 2]], agm_coefficients(torch.tensor([0.6, 1.6]), torch.full((2,), torch.nan)))
    assert kappa[1] == 1
    assert agm_coefficients(torch.tensor([0.6, torch.nan]), torch.tensor([0.6, 1.6])).tolist() == [1, 1]


def test_a_far_larger_loss_is_finite_and_the_difference_is_capped():
    out = torch.tensor([[[500.0, 0.0]], [[0.0, 500.0]]])
    losses = agm_losses(out, torch.tensor([0]))
    assert losses.tolist() == pytest.approx([0, 18.42], abs=0.01)
    steady = agm_coefficients(losses, losses)
    assert torch.equal(steady, torch.ones(2))
    assert agm_coefficients(losses.flip(0), losses, cap=3.0)[0] == pytest.approx(torch.tensor(3.0).exp().item())


def test_the_value_is_that_of_the_joint_logits():
    out = torch.randn(3, 2, 5, 4)
    torch.testing.assert_close(agm_logits(out, torch.rand(3, 2)), out.sum(0))


@pytest.mark.parametrize("ratio", [None, HALF])
def test_alpha_0_is_naive_training_bit_for_bit_also_where_gradients_are_large(ratio):
    train, val = make_clips(), make_clips(40, seed=1)
    train = Clips({m: 30 * e for m, e in train.embeddings.items()}, train.present, train.target)
    members = [Member(0, ratio, 1.0), Member(3, ratio, 0.5)]
    ours, naive = (
        fit_group(name, members, train, val, o, optimizer="sgd") for name, o in (("agm", {"alpha": 0.0}), ("naive", {}))
    )
    assert_same(ours.model.state_dict(), naive.model.state_dict())
    acts = fit_group("agm", members, train, val, {"alpha": 1e-9}, optimizer="sgd")  # which limits the norm
    assert not torch.equal(acts.model.head.classifier.weight, naive.model.head.classifier.weight)


def test_running_means_are_restored():
    clips = with_gaps(make_clips(30))
    (method, model), (resumed, _) = build("agm", clips), build("agm", clips)
    batch = batch_of(clips)
    gradients(method, model, batch)
    resumed.load({name: value.clone() for name, value in method.state().items()})
    for each in (method, resumed):
        each.begin_epoch(2)
    assert_same(gradients(method, model, batch)[1], gradients(resumed, model, batch)[1])
    assert_same(method.state(), resumed.state())
    fresh, _ = build("agm", clips)
    gradients(fresh, model, batch)
    assert not torch.equal(fresh.epoch_values()["coefficient_audio"], method.epoch_values()["coefficient_audio"])
    assert method.state()["num_batches"].tolist() == [[2] * len(SEEDS)] * 2


@pytest.mark.parametrize(("name", "value"), [("alpha", -0.1), ("alpha", float("nan")), ("cap", 0.0)])
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be"):
        AGMOptions(**{name: value})


def test_other_optimizers_get_a_note():
    assert methods["agm"].notes(AGMOptions(), "sgd", 10, ["audio", "video"]) == []
    assert "use sgd" in methods["agm"].notes(AGMOptions(), "adamw", 10, ["audio", "video"])[0]


def test_a_factor_is_finite_however_strong():
    losses, running = torch.tensor([9.0, 9.0]), torch.tensor([0.0, 18.0])
    coefficients = agm_coefficients(losses, running, alpha=9.0)
    assert coefficients.isfinite().all()
    assert agm_logits(torch.randn(2, 3, 4), coefficients).isfinite().all()
