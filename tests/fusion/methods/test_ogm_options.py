"""Options of OGM: BML, MLB and dominance by shares, each as written out in float64, and what each is when it is off."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from amr.fusion.data.clips import Clips
from amr.fusion.methods import methods
from amr.fusion.methods.base import NEEDS_SOFTMAX, PARTS_ADD_UP
from amr.fusion.methods.ogm_ge import OGMOptions
from amr.fusion.tasks import tasks
from amr.fusion.train.recipe import Member

from ..conftest import make_clips
from .conftest import HALF, SEEDS, assert_same, batch_of, build, fit_group, gradients, layers, with_gaps

THREE = {"audio": 8, "text": 4, "video": 6}
DROPS = {"opm": True, "warm_up": 0.0}
MEMBERS = [Member(0), Member(3, HALF, 0.5)]


def in_float64(name, options, dims=None, head="concat"):
    """A method on clips with gaps in its first epoch, its model and a batch, in float64."""
    clips = with_gaps(make_clips(30, dims))
    method, model = build(name, clips, options=options, head=head)
    model.double()
    method.begin_epoch(1)
    batch = batch_of(clips)
    return method, model, replace(batch, embeddings={m: e.double() for m, e in batch.embeddings.items()})


def encoded(model, batch, run):
    """Classifier of one run, and for each clip the modalities that it has, with their W_m and z^m."""
    modules, clips = layers(model, run), []
    for clip in range(batch.target.shape[1]):
        has = [(i, m) for i, m in enumerate(model.modalities) if batch.present[run, clip, i]]
        weights = [modules["classifier"].weight[:, 5 * i : 5 * i + 5] for i, _ in has]
        clips.append(
            {m: (w, modules[m](batch.embeddings[m][run, clip])) for (_, m), w in zip(has, weights, strict=True)}
        )
    return modules["classifier"].bias, clips


def over_others(values):
    """Ratio of each mean to the mean of the others."""
    means = {m: sum(found) / len(found) for m, found in values.items()}
    return {m: mean * (len(means) - 1) / (sum(means.values()) - mean) for m, mean in means.items()}


def slow_score_ratios(model, batch, run):
    """rho of the paper, one clip at a time."""
    bias, clips = encoded(model, batch, run)
    scores = {m: [] for m in model.modalities}
    for parts, y in zip(clips, batch.target[run].tolist(), strict=True):
        for m, (w, z) in parts.items():
            scores[m].append((w @ z + bias / len(scores)).softmax(-1)[y].item())
    return over_others(scores)


def slow_share_ratios(model, batch, run):
    """rho of the shares of gradient x input of the log-odds, one clip at a time, by autograd."""
    bias, clips = encoded(model, batch, run)
    shares = {m: [] for m in model.modalities}
    for parts in clips:
        inputs = [z.detach().requires_grad_() for _, z in parts.values()]
        logits = bias + sum(w @ z for (w, _), z in zip(parts.values(), inputs, strict=True))
        best = logits.argmax()
        rest = torch.cat([logits[:best], logits[best + 1 :]]).logsumexp(0)
        found = torch.autograd.grad(logits[best] - rest, inputs)
        norms = [float((g * z.detach()).norm()) for g, z in zip(found, inputs, strict=True)]
        for m, norm in zip(parts, norms, strict=True):
            if len(parts) > 1:
                shares[m].append(len(parts) * norm / sum(norms))
    return over_others(shares)


@pytest.mark.parametrize("dims", [None, THREE])
@pytest.mark.parametrize("dominance", ["logits", "share"])
def test_coefficients_are_those_of_the_ratios_in_float64(dominance, dims):
    method, model, batch = in_float64("ogm", {"dominance": dominance}, dims)
    both, _ = build("ogm", make_clips(30, dims), options={"dominance": dominance, "both_ways": True, "beta": 3.0})
    both.begin_epoch(1)
    for each in (method, both):
        each.loss(model, batch, model.encode(batch))
    for run in range(len(SEEDS)):
        rho = (slow_score_ratios if dominance == "logits" else slow_share_ratios)(model, batch, run)
        assert min(rho.values()) < 1 < max(rho.values())
        slowed = [1 - math.tanh(0.8 * r) if r > 1 else 1 for r in rho.values()]
        assert method.coefficients[:, run].tolist() == pytest.approx(slowed, rel=1e-9)
        factors = [1 + (2 if r < 1 else 1) * math.tanh(0.8 * (1 / r - 1)) for r in rho.values()]
        assert both.coefficients[:, run].tolist() == pytest.approx(factors, rel=1e-9)


def test_both_ways_is_a_loss_of_each_modality_and_factors_of_adapters_alone():
    method, model, batch = in_float64("ogm", {"both_ways": True})
    loss, plain = gradients(method, model, batch)
    adjusted = method.adjust(plain)
    for run in range(len(SEEDS)):
        bias, clips = encoded(model, batch, run)
        target = batch.target[run]
        joint = torch.stack([bias + sum(w @ z for w, z in parts.values()) for parts in clips])
        expected = cross_entropy(joint, target)
        for m in model.modalities:
            have = [i for i, parts in enumerate(clips) if m in parts]
            out = torch.stack([clips[i][m][0] @ clips[i][m][1] + bias / 2 for i in have])
            expected = expected + cross_entropy(out, target[have])
        torch.testing.assert_close(loss[run], expected.detach(), rtol=1e-10, atol=0)
        for name, g in plain.items():
            i = model.modalities.index(name.split(".")[1]) if name.startswith("adapters.") else None
            k = 1 if i is None else method.coefficients[i, run]
            torch.testing.assert_close(adjusted[name][run], k * g[run])


def test_both_ways_scales_all_of_an_encoder_and_the_noise_stays_on_kernels():
    shapes = {"adapters.audio.kernel": (4, 2, 3, 3), "adapters.audio.norm": (4,), "adapters.video.norm": (4,)}
    plain = {name: torch.randn(len(SEEDS), *shape) for name, shape in shapes.items()}
    changed = {}
    for name in ("ogm", "ogm-ge"):
        method, _ = build(name, options={"both_ways": True})
        method.begin_epoch(1)
        method.coefficients = torch.full((2, len(SEEDS)), 1.5)
        changed[name] = method.adjust(plain)
    assert all(torch.equal(changed["ogm"][name], 1.5 * g) for name, g in plain.items())
    assert torch.equal(changed["ogm-ge"]["adapters.audio.norm"], 1.5 * plain["adapters.audio.norm"])
    assert not torch.allclose(changed["ogm-ge"]["adapters.audio.kernel"], 1.5 * plain["adapters.audio.kernel"])


@pytest.mark.parametrize(
    ("name", "options", "other", "of_other"),
    [
        ("ogm", {**DROPS, "q_base": 0.0}, "ogm", {}),
        ("ogm-ge", {"opm": True, "warm_up": 1.0}, "ogm-ge", {}),
        ("ogm", {**DROPS, "alpha": 0.0}, "opm", {"warm_up": 0.0}),
        ("ogm-ge", {"opm": True, "alpha": 0.0, "warm_up": 0.5, "q_base": 0.9}, "opm", {"warm_up": 0.5, "q_base": 0.9}),
        ("ogm", {"dominance": "share", "end_epoch": 1}, "naive", {}),
    ],
)
def test_what_is_switched_off_is_the_other_method_bit_for_bit(name, options, other, of_other):
    train, val = with_gaps(make_clips(60)), make_clips(20, seed=1)
    ours = fit_group(name, MEMBERS, train, val, options)
    theirs = fit_group(other, MEMBERS, train, val, of_other, optimizer="sgd")
    assert_same(ours.model.state_dict(), theirs.model.state_dict())


@pytest.mark.parametrize(("name", "options"), [("ogm", {"alpha": 0.0}), ("ogm-ge", {"start_epoch": 9})])
def test_both_ways_without_factors_is_multi_loss(name, options):
    train, val = with_gaps(make_clips(60)), make_clips(20, seed=1)
    ours = fit_group(name, MEMBERS, train, val, {"both_ways": True, **options})
    theirs = fit_group("multi-loss", MEMBERS, train, val, optimizer="sgd")
    assert_same(ours.model.state_dict(), theirs.model.state_dict(), rtol=1e-5, atol=1e-6)  # sums in another order


def test_bml_drops_by_the_ratios_that_scale_the_gradients():
    method, model, batch = in_float64("ogm", {**DROPS, "p_exe": 1.0, "dominance": "share"})
    alone, _, _ = in_float64("opm", {"warm_up": 0.0, "p_exe": 1.0})
    loss, _ = gradients(method, model, batch)
    (rates,) = method.dropping.seen
    k = method.coefficients
    assert torch.equal(rates > 0, k < 1)
    ratios = torch.atanh(1 - k) / 0.8  # of the leading modality
    leads = rates > 0
    torch.testing.assert_close(rates[leads], 0.5 * (1 + 0.5 * torch.tanh(ratios[leads] - 1)))
    dropped = alone.dropping.loss(model, batch, model.encode(batch), torch.where(leads, ratios, 0))
    torch.testing.assert_close(loss, dropped.detach())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ogm", {**DROPS, "both_ways": True}),
        ("ogm-ge", {**DROPS, "dominance": "share"}),
        ("ogm", {"both_ways": True, "dominance": "share"}),
    ],
)
def test_a_run_in_a_group_equals_the_same_run_by_itself(name, options):
    train, val = with_gaps(make_clips(60, THREE)), make_clips(20, THREE, seed=1)
    members = [Member(0), Member(3, (1 / 3, 1 / 3, 1 / 3), 0.5)]
    group = fit_group(name, members, train, val, options, epochs=2)
    for run, member in enumerate(members):
        single = fit_group(name, [member], train, val, options, epochs=2)
        assert_same(group.model.run_state(run), single.model.run_state(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("head", ["attention", "gated", "bilinear"])
def test_shares_of_any_head_with_steps_and_a_modality_that_no_clip_has(head):
    clips = with_gaps(make_clips(40, THREE))
    clips.present[:, 1] = False
    clips.embeddings["text"].zero_()
    if head == "attention":
        steps = clips.embeddings["audio"][:, None].repeat(1, 3, 1)
        clips = Clips({**clips.embeddings, "audio": steps}, clips.present, clips.target)
    options = {**DROPS, "both_ways": True, "dominance": "share"}
    fitted = fit_group("ogm", [Member(0)], clips, clips, options, head=head, hidden=8, epochs=2)
    assert all(torch.isfinite(value).all() for value in fitted.model.state_dict().values())
    assert (fitted.history["coefficient_text"] == 1).all()
    assert not fitted.history["drop_rate_text"].any()
    assert (fitted.history["coefficient_audio"] != 1).all()


def test_only_logits_need_classes():
    for name in ("ogm", "ogm-ge"):
        assert methods[name].unfit(OGMOptions(), tasks["multilabel"]) == NEEDS_SOFTMAX
        share = OGMOptions(dominance="share", both_ways=True, opm=True)
        reasons = {task: methods[name].unfit(share, tasks[task]) for task in tasks}
        assert reasons == {"multiclass": "", "multilabel": "", "regression": PARTS_ADD_UP}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dominance": "shares"}, "Did you mean share"),
        ({"both_ways": True, "beta": 0.5}, "beta must be a finite number, 1 or more, got 0.5"),
        ({"both_ways": True, "beta": float("inf")}, "beta must be a finite number, 1 or more"),
        ({"beta": 3.0}, "beta must be used with both_ways=true, got 3 without it"),
        ({"q_base": 0.4}, "q_base must be used with opm=true"),
        ({"rescale": False}, "rescale must be used with opm=true"),
        ({"opm": True, "q_base": 2.0}, "q_base must be from 0 to 1"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        OGMOptions(**options)
