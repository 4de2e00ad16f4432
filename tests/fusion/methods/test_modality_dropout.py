import pytest
import torch
from torch.nn.functional import cross_entropy

from amr.fusion.methods.modality_dropout import ModalityDropoutOptions, keep
from amr.fusion.run_axis.seeds import generator
from amr.fusion.train.recipe import Member

from ..conftest import make_clips
from .conftest import HALF, SEEDS, assert_same, batch_of, build, fit_group, layers, with_gaps


def test_the_loss_is_that_of_a_loop_over_clips():
    clips = with_gaps(make_clips(30))
    method, model = build("modality-dropout", clips, options={"p": 0.6})
    draws = {seed: generator(seed, "noise") for seed in SEEDS}
    for _ in range(6):
        batch = batch_of(clips)
        loss = method.loss(model, batch, model.encode(batch))
        for run, seed in enumerate(SEEDS):
            modules, draw = layers(model, run), torch.rand(2, generator=draws[seed])
            selected = [m for m, u in zip(("audio", "video"), draw, strict=True) if u >= 0.6]
            if not selected:
                selected = [("audio", "video")[int(draw.argmax())]]
            logits = []
            for clip in range(30):
                has = [m for i, m in enumerate(("audio", "video")) if batch.present[run, clip, i]]
                used = [m for m in has if m in selected] or has
                z = [modules[m](batch.embeddings[m][run, clip]) * float(m in used) for m in ("audio", "video")]
                logits.append(modules["classifier"](torch.cat(z)))
            torch.testing.assert_close(loss[run], cross_entropy(torch.stack(logits), batch.target[run]))


def test_per_clip_the_loss_is_that_of_clips_with_draws_of_their_own():
    clips = with_gaps(make_clips(30))
    method, model = build("modality-dropout", clips, options={"p": 0.6, "per_clip": True})
    batch = batch_of(clips)
    loss = method.loss(model, batch, model.encode(batch))
    for run, seed in enumerate(SEEDS):
        modules, draw = layers(model, run), torch.rand(30, 2, generator=generator(seed, "noise"))
        logits, kinds = [], set()
        for clip in range(30):
            has = [i for i in range(2) if batch.present[run, clip, i]]
            used = [i for i in has if draw[clip, i] >= 0.6] or [max(has, key=lambda i, of=draw[clip]: of[i])]
            kinds.add(tuple(used))
            names = enumerate(("audio", "video"))
            z = [modules[m](batch.embeddings[m][run, clip]) * float(i in used) for i, m in names]
            logits.append(modules["classifier"](torch.cat(z)))
        assert kinds == {(0,), (1,), (0, 1)}
        torch.testing.assert_close(loss[run], cross_entropy(torch.stack(logits), batch.target[run]))


@pytest.mark.parametrize("num_modalities", [1, 2, 3, 6])
@pytest.mark.parametrize("p", [0.0, 0.5, 0.9, 1.0])
def test_it_never_drops_all_modalities_and_drops_at_the_expected_rate(num_modalities, p):
    draws = torch.Generator().manual_seed(0)
    present = torch.rand(1, 50, num_modalities, generator=draws) < 0.7
    present[..., 0] |= ~present.any(-1)
    all_present = torch.ones(2000, 1, num_modalities, dtype=torch.bool)
    draw = torch.rand(2000, num_modalities, generator=draws)
    for u in draw[:200]:
        selected = keep(u[None], present, p)
        assert selected.any(-1).all()
        assert not (selected & ~present).any()
    selected = keep(draw, all_present, p).squeeze(1)
    assert selected.any(-1).all()
    # with probability p^M all M would be dropped; then one is selected, chosen uniformly
    expected = 1 - p + p**num_modalities / num_modalities
    torch.testing.assert_close(selected.float().mean(0), torch.full((num_modalities,), expected), atol=0.045, rtol=0)


def test_per_clip_a_clip_drops_at_the_same_rate_whatever_it_lacks():
    present = torch.tensor([True, True, False]).expand(1, 20_000, 3)
    draw = torch.rand(1, 20_000, 3, generator=torch.Generator().manual_seed(0))
    assert (keep(draw, present, 0.5).sum(-1) == 2).float().mean() == pytest.approx(0.25, abs=0.01)


def test_the_head_gets_zeros_and_present_false_for_dropped_modalities():
    clips = make_clips(30)
    method, model = build("modality-dropout", clips, options={"p": 1.0}, seeds=(0,))
    seen = []
    model.head.register_forward_hook(lambda head, inputs, logits: seen.append(inputs))
    batch = batch_of(clips, 1)
    for _ in range(20):
        method.loss(model, batch, model.encode(batch))
    assert {tuple(present[0, 0].tolist()) for _, present in seen} == {(True, False), (False, True)}
    for z, present in seen:
        for i, value in enumerate(z.values()):
            assert torch.equal((value != 0).any(-1), present[..., i])


@pytest.mark.parametrize("per_clip", [False, True])
def test_a_run_in_a_group_drops_as_it_does_alone(per_clip):
    train, val = with_gaps(make_clips()), make_clips(40, seed=1)
    options = {"per_clip": per_clip}
    group = fit_group("modality-dropout", [Member(s) for s in (3, 0, 3)], train, val, options, epochs=2)
    single = fit_group("modality-dropout", [Member(3)], train, val, options, epochs=2)
    assert_same(group.model.run_state(2), single.model.run_state(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("head", ["concat", "gated", "attention"])
@pytest.mark.parametrize("adapter", ["none", "linear"])
@pytest.mark.parametrize("ratio", [None, HALF])
def test_p_zero_is_naive_training_bit_for_bit(head, adapter, ratio):
    train, val = with_gaps(make_clips()), make_clips(40, seed=1)
    members = [Member(0, ratio, 1.0), Member(0, ratio, 0.5), Member(3, ratio, 1.0)]
    plain = fit_group("naive", members, train, val, head=head, adapter=adapter)
    control = fit_group("modality-dropout", members, train, val, {"p": 0.0}, head=head, adapter=adapter)
    assert_same(plain.model.state_dict(), control.model.state_dict())


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_p_is_a_probability(p):
    with pytest.raises(ValueError, match="p must be from 0 to 1"):
        ModalityDropoutOptions(p)
