import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from amr.fusion.data.clips import Clips
from amr.fusion.methods import methods
from amr.fusion.methods.gge import pseudo_target
from amr.fusion.train.recipe import Member
from amr.fusion.train.trainer import train_group

from ..conftest import make_clips, make_recipe
from .conftest import DIMS, SEEDS, batch_of, build, fit_group, layers, val_accuracy, with_gaps


def uneven(num_clips: int) -> Clips:
    """Clips in which class 0 is the most frequent."""
    clips = make_clips(num_clips)
    return clips.take(torch.arange(num_clips)[(clips.target == 0) | (torch.arange(num_clips) % 4 == 0)])


def test_losses_and_gradients_are_those_of_a_loop_over_clips():
    clips = with_gaps(uneven(60))
    method, model = build("gge", clips)
    draws = torch.Generator().manual_seed(0)
    for weight in method.parameters():
        weight.data = torch.randn(weight.shape, generator=draws)
    batch = batch_of(clips)
    parameters = [*model.parameters(), *method.parameters()]
    loss = method.loss(model, batch, model.encode(batch))
    gradients = torch.autograd.grad(loss.sum(), parameters)
    by_name = dict(zip([*dict(model.named_parameters()), *method.heads], gradients, strict=True))
    prior = torch.tensor([(clips.target == c).sum() / len(clips) for c in range(3)]).log()
    for run in range(len(SEEDS)):
        modules, name = layers(model, run), list(DIMS)[int(method.dominant[run])]
        matrix = method.heads[name][run].detach().clone().requires_grad_()
        base, dominant = [], []
        for clip in range(len(clips)):
            z = {
                m: modules[m](batch.embeddings[m][run, clip]) * float(batch.present[run, clip, i])
                for i, m in enumerate(DIMS)
            }
            onehot = torch.zeros(3)
            onehot[batch.target[run, clip]] = 1
            bias = prior
            if batch.present[run, clip, list(DIMS).index(name)]:
                logits_d = z[name].detach() @ matrix
                residual = (onehot - prior.softmax(-1)).clamp(0, 1)
                dominant.append(binary_cross_entropy_with_logits(logits_d, residual, reduction="sum"))
                bias = prior + logits_d.detach()
            residual = (onehot - bias.softmax(-1)).clamp(0, 1)
            logits = modules["classifier"](torch.cat(list(z.values())))
            base.append(binary_cross_entropy_with_logits(logits, residual, reduction="sum"))
        expected = torch.stack(base).mean() + torch.stack(dominant).mean()
        torch.testing.assert_close(loss[run], expected)
        tensors = [modules["audio"].weight, modules["video"].weight, modules["classifier"].weight, matrix]
        names = ["adapters.audio.weight", "adapters.video.weight", "head.classifier.weight", name]
        for path, expected_gradient in zip(names, torch.autograd.grad(expected, tensors), strict=True):
            torch.testing.assert_close(by_name[path][run], expected_gradient, rtol=1e-4, atol=1e-6)


def test_the_dominant_head_does_not_train_adapters_nor_the_base_the_dominant_head():
    clips = make_clips(30)
    method, model = build("gge", clips)
    batch = batch_of(clips)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.zero_()  # the base's loss no longer depends on z: only the dominant head's remains
    loss = method.loss(model, batch, model.encode(batch))
    adapter_gradients = torch.autograd.grad(loss.sum(), list(model.adapters.parameters()), retain_graph=True)
    assert not any(g.any() for g in adapter_gradients)
    own = torch.autograd.grad(loss.sum(), method.parameters(), retain_graph=True)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.normal_()
    moved = method.loss(model, batch, model.encode(batch))
    again = torch.autograd.grad(moved.sum(), method.parameters())
    assert any(g.any() for g in own)
    assert all(torch.equal(a, b) for a, b in zip(own, again, strict=True))


def test_pseudo_targets():
    onehot = torch.eye(3)
    even = pseudo_target(onehot, torch.zeros(3, 3))
    torch.testing.assert_close(even, 2 / 3 * torch.eye(3))
    sure = pseudo_target(onehot, 50 * torch.eye(3))
    torch.testing.assert_close(sure, torch.zeros(3, 3))  # no residual
    wrong = pseudo_target(onehot, -50 * torch.eye(3))
    torch.testing.assert_close(wrong, torch.eye(3))
    never_seen = pseudo_target(onehot, torch.tensor([0.5, 0.5, 0.0]).log().expand(3, 3))
    torch.testing.assert_close(never_seen, torch.diag(torch.tensor([0.5, 0.5, 1.0])))


def test_the_dominant_modality_has_the_best_unimodal_val_accuracy_of_each_run():
    train, val = make_clips(), make_clips(40, seed=1)
    method, _ = build("gge", train, val, lr=1e-2)
    accuracy = {}
    for m in DIMS:
        recipe = make_recipe(train.only(m), method="unimodal", adapter="linear", epochs=2)
        unimodal = [train_group(recipe, [Member(s)], train.only(m), val.only(m)) for s in SEEDS]
        accuracy[m] = [val_accuracy(fitted) for fitted in unimodal]
    for run in range(len(SEEDS)):
        assert int(method.dominant[run]) == int(accuracy["video"][run] > accuracy["audio"][run])


@pytest.mark.parametrize("strong", ["audio", "video"])
@pytest.mark.parametrize("with_val", [True, False])
def test_a_modality_without_information_is_not_dominant(strong, with_val):
    train, val = make_clips(), make_clips(40 if with_val else 0, seed=1)
    for clips in (train, val):
        for m in DIMS:
            if m != strong:
                clips.embeddings[m].normal_(generator=torch.Generator().manual_seed(0))
    method, _ = build("gge", train, val, epochs=10)
    assert [list(DIMS)[int(d)] for d in method.dominant] == [strong] * 2


def test_a_modality_that_few_clips_have_is_not_dominant():
    train, val = make_clips(), make_clips(40, seed=1)
    for clips in (train, val):
        clips.present[3:, 0] = False
        clips.embeddings["audio"][3:] = 0
    method, _ = build("gge", train, val, epochs=10)
    assert method.dominant.tolist() == [1, 1]


def test_only_the_base_remains_after_training():
    train, val = make_clips(), make_clips(40, seed=1)
    fitted = fit_group("gge", [Member(0), Member(3)], train, val, epochs=20)
    assert not any("gge" in name or "dominant" in name for name in fitted.model.state_dict())
    assert float(fitted.history["train_loss"][-1].max()) < float(fitted.history["train_loss"][0].min())
    for run in range(2):
        indicators = [fitted.history[f"dominant_{m}"][:, run] for m in DIMS]
        assert torch.equal(sum(indicators), torch.ones(20))


def test_its_defaults_are_those_of_its_authors():
    assert (methods["gge"].optimizer, methods["gge"].lr, methods["gge"].clip_norm) == ("adamax", 1e-3, 0.25)
