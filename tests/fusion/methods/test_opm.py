"""OPM: the formula of the paper in float64, naive training where nothing is dropped, and clips that lose everything."""

import math
from dataclasses import replace

import pytest
import torch

from amr.fusion.balance import opm_keep, opm_rates, opm_scale, score_ratios
from amr.fusion.methods.dropping import OPMOptions
from amr.fusion.run_axis.seeds import Noise
from amr.fusion.train.recipe import Member

from ..conftest import make_clips
from .conftest import HALF, SEEDS, assert_same, batch_of, build, fit_group, gradients, layers, with_gaps

ALWAYS = {"p_exe": 1.0, "warm_up": 0.0}


def slow_rates(model, batch, run, q_base=0.5, strength=0.5):
    """Rates of the paper for a linear concat head, out_m = W_m z_m + b / M, one clip at a time."""
    modules, score = layers(model, run), []
    for i, m in enumerate(model.modalities):
        part = modules["classifier"].weight[:, 5 * i : 5 * i + 5]
        p_target = []
        for clip in batch.present[run, :, i].nonzero().flatten().tolist():
            out = part @ modules[m](batch.embeddings[m][run, clip]) + modules["classifier"].bias / 2
            p_target.append(out.softmax(-1)[batch.target[run, clip]].item())
        score.append(sum(p_target) / len(p_target))
    rho = score[0] / score[1], score[1] / score[0]
    return [min(q_base * (1 + strength * math.tanh(r - 1)), 1) if r > 1 else 0.0 for r in rho]


@pytest.mark.parametrize("rescale", [True, False])
def test_a_batch_is_the_paper_s_formula_in_float64(rescale):
    clips = with_gaps(make_clips(30))
    method, model = build("opm", clips, options={**ALWAYS, "rescale": rescale})
    model.double()
    batch = batch_of(clips)
    batch = replace(batch, embeddings={m: e.double() for m, e in batch.embeddings.items()})
    method.begin_epoch(1)
    loss, _ = gradients(method, model, batch)
    noise = Noise(SEEDS, torch.device("cpu"), "noise")  # what the method drew from
    noise.uniform(1)
    draws = noise.uniform(30, 2)
    for run in range(len(SEEDS)):
        q = slow_rates(model, batch, run)
        assert max(q) > 0
        assert min(q) == 0
        theta = sum(q) / 2 if rescale else 0.0  # both z have 5 dimensions
        modules, losses, lost = layers(model, run), [], 0
        for clip in range(30):
            kept = [bool(batch.present[run, clip, i]) and float(draws[run, clip, i]) >= q[i] for i in range(2)]
            z = [modules[m](batch.embeddings[m][run, clip]) * k for m, k in zip(model.modalities, kept, strict=True)]
            logits = modules["classifier"](torch.cat(z) / (1 - theta))
            lost += not any(kept)
            if any(kept):
                losses.append(-logits.log_softmax(-1)[batch.target[run, clip]])
        assert lost > 0
        torch.testing.assert_close(loss[run], torch.stack(losses).mean().detach(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("ratio", [None, HALF])
@pytest.mark.parametrize("options", [{"q_base": 0.0}, {"p_exe": 0.0}, {"warm_up": 1.0}])
def test_what_never_drops_is_naive_training_bit_for_bit(ratio, options):
    train, val = make_clips(), make_clips(40, seed=1)
    members = [Member(0, ratio, 1.0), Member(3, ratio, 0.5)]
    ours, naive = (fit_group(name, members, train, val, o) for name, o in (("opm", options), ("naive", {})))
    assert_same(ours.model.state_dict(), naive.model.state_dict())
    assert not ours.history["drop_rate_audio"].any()


def test_it_acts_after_the_warm_up():
    train, val = make_clips(), make_clips(40, seed=1)
    history = fit_group("opm", [Member(0)], train, val, {"warm_up": 0.5}).history
    rates = history["drop_rate_audio"] + history["drop_rate_video"]
    assert (rates[:, 0] > 0).tolist() == [False, False, True, True]


def test_a_batch_that_loses_all_its_clips_has_loss_0_and_no_gradient():
    clips = make_clips(30)
    clips.present[:, 1] = False
    clips.embeddings["video"].zero_()
    method, model = build("opm", clips, options={**ALWAYS, "q_base": 1.0})
    batch, ratios = batch_of(clips), torch.tensor([9.0, 0.1])[:, None].expand(2, len(SEEDS))
    loss = method.dropping.loss(model, batch, model.encode(batch), ratios)  # drops all that the clips have
    assert loss.tolist() == [0, 0]
    found = torch.autograd.grad(loss.sum(), [*model.parameters()], materialize_grads=True)
    assert not any(g.any() for g in found)  # NaN would be true


def test_only_heads_that_do_not_look_at_presence_are_rescaled():
    for head, rescales in (("concat", True), ("sum", True), ("gated", False), ("film", False), ("attention", False)):
        method, _ = build("opm", head=head, hidden=8)
        assert method.dropping.rescales == rescales, head


def test_rates_grow_with_the_lead_and_swap_with_the_modalities():
    out, target = torch.randn(2, 3, 40, 4), torch.randint(4, (3, 40))
    ratios = score_ratios(out, target)
    torch.testing.assert_close(ratios[0] * ratios[1], torch.ones(3))
    torch.testing.assert_close(score_ratios(out.flip(0), target), ratios.flip(0))
    rates = opm_rates(torch.tensor([0.9, 1.0, 1.2, 2.0, 50.0]), q_base=0.8)
    assert rates[:2].tolist() == [0, 0]
    assert rates[2:].tolist() == pytest.approx([0.8 * (1 + 0.5 * math.tanh(0.2)), 1.0, 1.0])


def test_rescaling_keeps_the_expected_size():
    rates, dims, draws = torch.tensor([0.6, 0.0]), [30, 10], torch.rand(200_000, 2)
    kept = opm_keep(rates, draws, torch.ones(200_000, 2, dtype=torch.bool))
    size = (kept * torch.tensor(dims)).sum(-1).double().mean()
    assert float(size * opm_scale(rates, dims)) == pytest.approx(40, rel=0.01)


@pytest.mark.parametrize("name", ["q_base", "strength", "p_exe", "warm_up"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be from 0 to 1"):
        OPMOptions(**{name: value})
