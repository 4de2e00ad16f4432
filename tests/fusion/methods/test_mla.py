"""MLA: turns on each batch, the projection, and the answer."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from amr.fusion.balance import updated_projection
from amr.fusion.config import FitConfig
from amr.fusion.fit import fit
from amr.fusion.heads import heads
from amr.fusion.heads.shared import MLAOptions
from amr.fusion.run_axis.seeds import generator
from amr.fusion.train.recipe import Member
from amr.fusion.train.trainer import train_group

from ..conftest import make_clips, make_recipe
from .conftest import SEEDS, batch_of, build, fit_group, with_gaps


def by_hand(adapters, weight, bias, clips, order, projects):
    """One epoch of turns in float64, by torch's own SGD, which skips what has no gradient."""
    parameters = [*(p for pair in adapters for p in pair), weight, bias]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-2)
    projection, seen = torch.eye(5, dtype=torch.float64), 0
    for rows in order.split(32):
        batch = clips.take(rows)
        for i, ((v, c), e) in enumerate(zip(adapters, batch.embeddings.values(), strict=True)):
            optimizer.zero_grad()
            has = batch.present[:, i]
            z = e[has].double() @ v.T + c
            cross_entropy(z @ weight.T + bias, batch.target[has]).backward()
            if projects:
                weight.grad = weight.grad @ projection
                r = z.detach().mean(0)
                inverse = torch.linalg.inv(projection) + torch.outer(r, r) / 0.1 ** (1 + seen / len(clips))
                projection = torch.linalg.inv(inverse)
                projection = projection * 5**0.5 / projection.norm()
            optimizer.step()
        seen += len(rows)


@pytest.mark.parametrize("projects", [True, False])
def test_an_epoch_is_that_of_a_loop_over_batches_and_modalities(projects):
    clips = with_gaps(make_clips(70))
    options = MLAOptions(projection=projects)
    recipe = make_recipe(
        clips, method="mla", head="mla", adapter="linear", options=options, epochs=1, optimizer="sgd", lr=0.1
    )
    first = build("mla", clips, clips, seeds=(0,), head="mla")[1].run_state(0)
    trained = train_group(recipe, [Member(0)], clips, make_clips(0)).model.run_state(0)
    start = {name: value.double().requires_grad_() for name, value in first.items()}
    adapters = [(start[f"adapters.{m}.weight"], start[f"adapters.{m}.bias"]) for m in clips.embeddings]
    order = torch.randperm(70, generator=generator(0, "batches"))
    by_hand(adapters, start["head.classifier.weight"], start["head.classifier.bias"], clips, order, projects)
    for name, value in trained.items():
        torch.testing.assert_close(value.double(), start[name].detach(), rtol=1e-4, atol=1e-5)


def test_the_projection_is_that_of_least_squares_and_keeps_its_norm():
    draws = torch.Generator().manual_seed(0)
    means = torch.randn(3, 2, 6, generator=draws, dtype=torch.float64)
    projection = torch.eye(6, dtype=torch.float64).expand(2, 6, 6)
    for r in means:
        projection = updated_projection(projection, r, 1e-6)
        torch.testing.assert_close(torch.linalg.matrix_norm(projection), torch.full((2,), 6.0**0.5).double())
    for run in range(2):
        basis = torch.linalg.qr(means[:, run].T).Q
        away = torch.eye(6, dtype=torch.float64) - basis @ basis.T
        torch.testing.assert_close(projection[run], away * (6.0 / 3) ** 0.5, atol=1e-4, rtol=0)
    same = updated_projection(projection, torch.zeros(2, 6, dtype=torch.float64), 0.1)
    torch.testing.assert_close(same, projection)


@pytest.mark.parametrize("answer", ["entropy", "even"])
def test_the_answer_is_that_of_a_loop_over_clips_and_does_not_depend_on_other_clips(answer):
    clips = with_gaps(make_clips(30))
    model = fit_group("mla", [Member(0), Member(3)], clips, clips).model
    model.head.options = MLAOptions(answer)
    batch = batch_of(clips)
    z, logits, layer = model.encode(batch), model(batch), model.head.classifier
    for run in range(len(SEEDS)):
        for clip in range(30):
            out = [
                value[run, clip] @ layer.weight[run].T + layer.bias[run]
                for i, value in enumerate(z.values())
                if batch.present[run, clip, i]
            ]
            entropies = torch.stack([torch.distributions.Categorical(logits=each).entropy() for each in out])
            weights = (entropies.max() - entropies).exp() if answer == "entropy" else torch.ones(len(out))
            expected = (weights[:, None] / weights.sum() * torch.stack(out)).sum(0)
            torch.testing.assert_close(logits[run, clip], expected, rtol=1e-4, atol=1e-5)


def test_swapped_modalities_answer_alike():
    clips = make_clips(12)
    model = fit_group("mla", [Member(0)], clips, clips).model
    batch = batch_of(clips, 1)
    z = model.encode(batch)
    a, v = z.values()
    torch.testing.assert_close(
        model.head({"audio": a, "video": v}, batch.present), model.head({"audio": v, "video": a}, batch.present)
    )


def test_a_restored_projection_goes_on_alike():
    clips = make_clips(40)
    method, model = build("mla", clips, clips, head="mla")
    batch = batch_of(clips)
    method.begin_epoch(1)
    for turn in range(2):
        method.begin_turn(turn)
        method.loss(model, batch, model.encode(batch))
        method.adjust({name: p.detach() for name, p in model.named_parameters()})
    other, _ = build("mla", clips, clips, head="mla")
    assert not torch.equal(other.projection, method.projection)
    other.load(method.state())
    assert torch.equal(other.projection, method.projection)


def test_a_run_of_it_is_read_back_and_refuses_a_ratio(small_cache):
    config = FitConfig(cache=str(small_cache), method="mla", adapter="linear", epochs=2, device="cpu", lr=0.1)
    result = fit(config)
    assert result.record.config.head == "mla"
    assert sum(result.test["share"].values()) == pytest.approx(1)
    assert not heads["mla"].listed


def test_encodings_of_several_sizes_are_refused():
    with pytest.raises(ValueError, match=r"--method mla must have encodings of one size.* got audio 8, video 6"):
        build("mla", head="mla", adapter="none")


def test_the_answer_is_checked():
    with pytest.raises(ValueError, match="answer must be entropy or even, got 'mean'"):
        MLAOptions("mean")
