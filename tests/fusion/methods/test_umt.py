from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from amr.fusion.config import FitConfig
from amr.fusion.data.clips import Clips
from amr.fusion.fit import fit
from amr.fusion.methods import methods
from amr.fusion.methods.base import NEEDS_SOFTMAX
from amr.fusion.methods.umt import UMTOptions, _per_clip, teacher_scores
from amr.fusion.resolve import check_task
from amr.fusion.tasks import tasks
from amr.fusion.train.recipe import Member
from amr.fusion.train.trainer import train_group

from ..conftest import make_clips, make_recipe
from .conftest import HALF, SEEDS, assert_same, batch_of, build, fit_group, gradients, layers, with_gaps


def test_loss_and_gradients_are_those_of_a_loop_over_clips():
    clips = with_gaps(make_clips(30))
    method, model = build("umt", clips, options={"weight": 7.0})
    batch = batch_of(clips)
    loss = method.loss(model, batch, model.encode(batch))
    gradients = torch.autograd.grad(loss.sum(), list(model.parameters()))
    by_name = dict(zip(dict(model.named_parameters()), gradients, strict=True))
    for run in range(len(SEEDS)):
        modules = layers(model, run)
        teachers = {m: layers(teacher, run)[m] for m, teacher in method.teachers.items()}
        joined, distances = [], {"audio": [], "video": []}
        for clip in range(30):
            z = []
            for i, m in enumerate(("audio", "video")):
                e = batch.embeddings[m][run, clip]
                if batch.present[run, clip, i]:
                    z.append(modules[m](e))
                    distances[m].append(((z[-1] - teachers[m](e).detach()) ** 2).mean())
                else:
                    z.append(torch.zeros(5))
            joined.append(torch.cat(z))
        expected = cross_entropy(modules["classifier"](torch.stack(joined)), batch.target[run])
        expected = expected + 7.0 * sum(torch.stack(d).mean() for d in distances.values())
        torch.testing.assert_close(loss[run], expected)
        for m in ("audio", "video"):
            expected_gradient = torch.autograd.grad(expected, modules[m].weight, retain_graph=True)[0]
            torch.testing.assert_close(by_name[f"adapters.{m}.weight"][run], expected_gradient)


def test_teachers_equal_unimodal_runs_and_are_frozen():
    train, val = make_clips(), make_clips(40, seed=1)
    method, _ = build("umt", train, val)
    for m, teacher in method.teachers.items():
        assert not teacher.training
        assert not any(p.requires_grad for p in teacher.parameters())
        recipe = make_recipe(train.only(m), method="unimodal", adapter="linear", epochs=2)
        for run, seed in enumerate(SEEDS):
            single = train_group(recipe, [Member(seed)], train.only(m), val.only(m))
            assert_same(teacher.run_state(run), single.model.run_state(0), rtol=1e-4, atol=1e-5)


def test_a_large_weight_keeps_adapters_close_to_their_teachers():
    train, val = make_clips(), make_clips(40, seed=1)
    settings = {"epochs": 60, "select": "last"}

    def distance(weight):
        method, _ = build("umt", train, val, (0,), **settings)
        fitted = fit_group("umt", [Member(0)], train, val, {"weight": weight}, **settings).model
        batch = batch_of(train, 1)
        z = fitted.encode(batch)
        taught = {m: method.teachers[m].adapters[m](batch.embeddings[m]) for m in z}
        return sum((z[m] - taught[m]).square().mean().item() for m in z)

    assert distance(50.0) < 0.05 * distance(0.0)


@pytest.mark.parametrize("ratio", [None, HALF])
def test_weight_zero_is_naive_training_bit_for_bit_and_has_no_teachers(ratio):
    train, val = make_clips(), make_clips(40, seed=1)
    members = [Member(0, ratio, 1.0), Member(0, ratio, 0.5), Member(3, ratio, 1.0)]
    plain = fit_group("naive", members, train, val)
    control = fit_group("umt", members, train, val, {"weight": 0.0})
    assert_same(plain.model.state_dict(), control.model.state_dict())
    assert build("umt", options={"weight": 0.0})[0].teachers == {}


def test_distillation_of_logits_is_the_formula_in_float64():
    clips = with_gaps(make_clips(30))
    options = {"weight": 0.0, "logits": 2.0, "temperature": 3.0}
    method, model = build("umt", clips, options=options, adapter="none")
    batch = batch_of(clips)
    loss = method.loss(model, batch, model.encode(batch))
    head = model.head.classifier
    for run in range(len(SEEDS)):
        target, parts, joint = batch.target[run], [], head.bias[run].double()
        for i, (m, columns) in enumerate((("audio", slice(0, 8)), ("video", slice(8, 14)))):
            e, has = batch.embeddings[m][run].double(), batch.present[run, :, i]
            product = e @ head.weight[run, :, columns].double().T
            joint = joint + product
            teacher = layers(method.teachers[m], run)["classifier"].double()
            p, out = (teacher(e) / 3).softmax(-1), ((product + head.bias[run].double() / 2) / 3).log_softmax(-1)
            parts.append(9 * (p * (p.log() - out)).sum(-1)[has].mean())
        torch.testing.assert_close(loss[run].double(), cross_entropy(joint, target) + 2 * sum(parts), rtol=1e-6, atol=0)
    alone = torch.autograd.grad(loss.sum(), list(model.parameters()))
    assert all(g.abs().sum() > 0 for g in alone)


@pytest.mark.parametrize("swapped", [False, True])
def test_first_only_the_adapter_of_the_weaker_teacher_learns(swapped):
    clips = make_clips(30)
    names = ("video", "audio") if swapped else ("audio", "video")
    ordered = Clips({m: clips.embeddings[m] for m in names}, clips.present, clips.target)
    method, model = build("umt", ordered, options={"priority_epochs": 2}, seeds=(0,), epochs=3)
    batch = batch_of(ordered, 1)
    taught = [teacher(batch.only(m)).softmax(-1) for m, teacher in method.teachers.items()]
    scores = [float(p[0, torch.arange(30), batch.target[0]].mean()) for p in taught]
    weaker = names[scores.index(min(scores))]
    for epoch, acts in ((1, True), (2, True), (3, False)):
        method.begin_epoch(epoch)
        _, before = gradients(method, model, batch)
        for name, g in method.adjust(before).items():
            waits = acts and name.startswith("adapters.") and not name.startswith(f"adapters.{weaker}.")
            assert torch.equal(g, torch.zeros_like(g) if waits else before[name]), (epoch, name)


def test_with_three_modalities_they_take_turns_from_the_weakest():
    clips = make_clips(30, {"audio": 8, "text": 4, "video": 6})
    method, model = build("umt", clips, clips, options={"priority_epochs": 4}, epochs=5)
    batch, learned = batch_of(clips), []
    for epoch in range(1, 6):
        method.begin_epoch(epoch)
        method.loss(model, batch, model.encode(batch))
        learned.append(None if method.turn is None else method.learns.clone())
    scores = teacher_scores(method._taught(batch), batch)
    assert torch.equal(learned[0], scores == scores.amin(0))
    assert torch.equal(learned[2], scores == scores.median(0).values)
    assert torch.equal(learned[0], learned[1])
    assert torch.equal(learned[2], learned[3])
    assert learned[4] is None


def test_with_all_of_g2d_a_run_in_a_group_equals_the_run_alone():
    train, val = with_gaps(make_clips()), make_clips(40, seed=1)
    options = {"weight": 1.0, "logits": 1.0, "priority_epochs": 2}
    group = fit_group("umt", [Member(0), Member(3, HALF, 0.3)], train, val, options, head="film", hidden=8)
    single = fit_group("umt", [Member(3, HALF, 0.3)], train, val, options, head="film", hidden=8)
    assert_same(group.model.run_state(1), single.model.run_state(0), rtol=1e-3, atol=1e-4)


def test_steps_are_averaged_for_the_teachers_logits():
    clips = make_clips(20)
    steps = clips.embeddings["audio"][:, None].repeat(1, 3, 1)
    steps[:10, 2:] = 0  # padding
    stepped = Clips({**clips.embeddings, "audio": steps}, clips.present, clips.target)
    settings = {"options": {"logits": 1.0}, "head": "attention", "hidden": 8, "seeds": (0,), "adapter": "mlp"}
    (method, _), (other, _) = build("umt", stepped, **settings), build("umt", clips, **settings)
    torch.testing.assert_close(method._taught(batch_of(stepped, 1)), other._taught(batch_of(clips, 1)))


def test_it_needs_an_adapter_unless_only_logits_are_taught(small_cache):
    assert methods["umt"].needs_adapter
    config = FitConfig(cache=str(small_cache), method="umt", epochs=1, device="cpu")
    for options in ((), ("logits=1",), ("weight=0", "logits=1", "priority_epochs=1")):
        with pytest.raises(ValueError, match="--adapter must be linear or mlp for --method umt"):
            fit(replace(config, method_option=options))
    assert fit(replace(config, method_option=("weight=0", "logits=1"))).run.is_dir()


@pytest.mark.parametrize("options", [{"logits": 1.0}, {"priority_epochs": 1}])
def test_what_compares_softmaxes_needs_classes(options):
    assert methods["umt"].unfit(UMTOptions(), tasks["regression"]) == ""
    assert methods["umt"].unfit(UMTOptions(**options), tasks["regression"]) == NEEDS_SOFTMAX
    texts = tuple(f"{name}={value}" for name, value in options.items())
    config = FitConfig(cache="c", method="umt", method_option=texts, task="regression")
    advice = "Pass --method-option logits=0 --method-option priority_epochs=0, or choose another method"
    with pytest.raises(ValueError, match=f"got umt: its formula needs a softmax over classes. {advice}"):
        check_task(config)
    check_task(replace(config, method_option=("weight=1",)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"logits": -1.0}, "logits must be a finite number, 0 or more"),
        ({"temperature": 0.0}, "temperature must be a finite number above 0"),
        ({"priority_epochs": -1}, "priority_epochs must be 0 or more"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        UMTOptions(**options)


def test_priority_leaves_epochs_in_which_every_modality_learns():
    with pytest.raises(ValueError, match=r"priority_epochs must be below the 10 epochs .* got 151. Pass .*=5\.$"):
        build("umt", options={"priority_epochs": 151}, epochs=10)


def test_the_distance_of_a_clip_is_the_mean_over_its_valid_steps():
    z = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    distance = z.square()
    z[:, 1, 1:], distance[:, 1, 1:] = 0, 0  # one step, and padding
    expected = distance.mean((2, 3))
    expected[:, 1] = distance[:, 1, 0].mean(-1)
    torch.testing.assert_close(_per_clip(distance, z), expected)
    torch.testing.assert_close(_per_clip(distance[:, :, 0], z[:, :, 0]), distance[:, :, 0].mean(-1))


@pytest.mark.parametrize("weight", [-1.0, float("inf"), float("nan")])
def test_a_negative_or_infinite_weight_is_refused(weight):
    with pytest.raises(ValueError, match="weight must be a finite number, 0 or more"):
        UMTOptions(weight)
