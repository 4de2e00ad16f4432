import pytest
import torch
from torch.nn.functional import cross_entropy

from amr.fusion.methods import methods
from amr.fusion.methods.umt import UMTOptions
from amr.fusion.train.recipe import Member
from amr.fusion.train.trainer import train_group

from ..conftest import make_clips, make_recipe
from .conftest import HALF, SEEDS, assert_same, batch_of, build, fit_group, layers, with_gaps


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


def test_it_needs_an_adapter():
    assert methods["umt"].needs_adapter


@pytest.mark.parametrize("weight", [-1.0, float("inf"), float("nan")])
def test_a_negative_or_infinite_weight_is_refused(weight):
    with pytest.raises(ValueError, match="weight must be 0 or more"):
        UMTOptions(weight)
