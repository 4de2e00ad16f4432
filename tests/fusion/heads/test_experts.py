"""A linear classifier of each modality beside any head."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch

from amr.common.files import read_json
from amr.fusion.attribution.shapley import unimodal_logits
from amr.fusion.config import FitConfig
from amr.fusion.evaluate.config import EvaluateConfig
from amr.fusion.evaluate.evaluate import evaluate
from amr.fusion.explain.config import ExplainConfig
from amr.fusion.explain.explain import explain
from amr.fusion.fit import fit
from amr.fusion.heads import HeadShape, build_head, heads
from amr.fusion.predict import predict
from amr.fusion.resolve import with_head
from amr.fusion.run_axis.axes import mean_over_steps
from amr.fusion.run_axis.seeds import Draws
from amr.fusion.runs.load_head import load_head
from amr.fusion.runs.record import RunRecord

from .conftest import DIMS, NAMES, NUM_CLASSES, all_present, linear, make_z, with_steps
from .test_base import share_loss

CLOSED = [(name, hidden) for name in NAMES if heads[name].closed_form for hidden in (0, 8)]
ADDITIVE = [("concat", 0), ("sum", 0), ("sum", 8), ("cosine", 0), ("cosine", 8)]


def build(name, num_modalities=2, hidden=8, seeds=(0, 3), experts=True):
    shape = HeadShape(DIMS[num_modalities], NUM_CLASSES, hidden, experts=experts)
    return build_head(name, shape, Draws(seeds)).double()


def test_a_head_without_experts_is_itself():
    assert type(build("gated", experts=False)) is heads["gated"]


@pytest.mark.parametrize("num_modalities", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_the_head_and_of_each_expert(name, num_modalities):
    head, plain = build(name, num_modalities), build(name, num_modalities, experts=False)
    assert all(torch.equal(value, plain.state_dict()[key]) for key, value in head.inner.state_dict().items())
    z, num_steps = with_steps(3) if head.takes_steps and num_modalities == 3 else (make_z(num_modalities), {})
    present = all_present(z)
    logits = head(z, present)
    assert head.fuse(z, present).shape == (2, 7, head.num_features)
    for run in range(2):
        for clip in range(7):
            expected = plain(z, present)[run, clip]
            for layer, (m, x) in zip(head.experts, z.items(), strict=True):
                x = x[run, clip]
                x = x if x.ndim == 1 else x[: num_steps[m][clip]].mean(0)
                expected = expected + linear(layer, run)(x)
            torch.testing.assert_close(logits[run, clip], expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_in_a_group_equals_the_same_run_by_itself(name):
    group, single = build(name, 3, seeds=(0, 3, 0)), build(name, 3, seeds=(3,))
    z = make_z(3, num_runs=3)
    alone = single({m: v[1:2] for m, v in z.items()}, all_present(z)[1:2])
    torch.testing.assert_close(group(z, all_present(z))[1:2], alone)


@pytest.mark.parametrize(("name", "hidden"), CLOSED)
def test_the_input_gradient_equals_that_of_autograd(name, hidden):
    head, z = build(name, 3, hidden), make_z(3)
    assert head.closed_form
    present = all_present(z)
    cotangent = torch.randn(2, 7, NUM_CLASSES, dtype=torch.float64)
    inputs = {m: v.clone().requires_grad_() for m, v in z.items()}
    expected = torch.autograd.grad(head(inputs, present), list(inputs.values()), cotangent)
    for ours, gradient in zip(head.input_gradient(head.fuse(z, present), cotangent).values(), expected, strict=True):
        torch.testing.assert_close(ours, gradient)
    losses = [share_loss(function, z, present) for function in (head, lambda z, present: head(z, present))]
    gradients = [torch.autograd.grad(loss, list(head.parameters()), materialize_grads=True) for loss in losses]
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["concat", "sum", "cosine"])
def test_runs_that_share_their_clips_have_the_same_logits(name):
    head, z = build(name, hidden=0), make_z(num_runs=1)
    assert head.shares_inputs
    twice = {m: x.expand(2, -1, -1) for m, x in z.items()}
    present = all_present(twice)
    torch.testing.assert_close(head(z, present), head(twice, present))
    torch.testing.assert_close(share_loss(head, z, present), share_loss(head, twice, present))


@pytest.mark.parametrize("name", ["gated", "attention", "tensor"])
def test_the_part_of_a_modality_has_that_of_its_expert(name):
    head, z = build(name, 3), make_z(3)
    present = all_present(z)
    parts, of_inner = unimodal_logits(head, z, present), unimodal_logits(head.inner, z, present)
    bias = sum(layer.bias for layer in head.experts).unsqueeze(1)
    for ours, inner, layer, x in zip(parts, of_inner, head.experts, z.values(), strict=True):
        torch.testing.assert_close(ours, inner + x @ layer.weight.mT + bias / 3)


@pytest.mark.parametrize(("name", "hidden"), ADDITIVE)
def test_additive_heads_stay_additive(name, hidden):
    head, z = build(name, 3, hidden), make_z(3)
    present = all_present(z)
    none = {m: torch.zeros_like(x) for m, x in z.items()}
    parts, biases = head.modality_logits(z), head.modality_logits(none)
    torch.testing.assert_close(sum(parts.values()), head(z, present))
    before = head(none, present)
    if name == "sum" and hidden:  # the bias of its hidden layer is part of h(z)
        return
    assert head.scale_modalities([2.0, 0.0, 0.5])
    changed = sum(f * (parts[m] - biases[m]) for m, f in zip(z, (2.0, 0.0, 0.5), strict=True))
    torch.testing.assert_close(head(z, present), before + changed)


@pytest.mark.parametrize("name", ["gated", "tensor", "cross-attention"])
def test_other_heads_stay_as_they_are(name):
    head = build(name)
    before = {key: value.clone() for key, value in head.state_dict().items()}
    assert head.modality_logits(make_z()) is None
    assert not head.scale_modalities([0.5, 1.0])
    assert all(torch.equal(value, before[key]) for key, value in head.state_dict().items())


def test_the_head_of_a_method_has_none():
    assert with_head(FitConfig(cache="any", method="ume", experts=True)) == with_head(
        FitConfig(cache="any", method="ume")
    )
    assert with_head(FitConfig(cache="any", experts=True)).experts


@pytest.fixture(scope="module")
def fitted(small_home):
    """A run with experts and AMR."""
    return fit(
        FitConfig(cache="small", head="gated", hidden=8, experts=True, amr_ratio="1:1", epochs=3, lr=0.01, device="cpu")
    )


def test_a_run_keeps_its_experts(fitted):
    assert "_gated8+experts_" in fitted.run.name
    record = RunRecord.read(fitted.run)
    assert record.config.experts
    head = load_head(fitted.run)
    assert len(head.model.head.experts) == len(head.modalities)
    table = pd.read_csv(fitted.run / "predictions.csv", dtype={"pred": str})
    for row, prediction in zip(table.itertuples(), predict(fitted.run, list(table["id"]), "cpu"), strict=True):
        assert prediction.pred == row.pred
        assert prediction.probability == pytest.approx(row.probability, abs=1e-4)


def test_a_run_with_experts_is_evaluated_and_explained(fitted):
    evaluated = evaluate(EvaluateConfig(fitted.run, device="cpu", bootstrap=0, noise_draws=1)).document
    (measured,) = evaluated["runs"]
    assert measured["measures"]["accuracy"] == pytest.approx(fitted.test["accuracy"])
    id_ = pd.read_csv(fitted.run / "predictions.csv")["id"][0]
    (prediction,) = predict(fitted.run, [id_], "cpu")
    explained = explain(ExplainConfig(fitted.run, id_, device="cpu"))
    assert explained.pred == prediction.pred
    assert explained.share["grad_x_input"] == pytest.approx(prediction.share, abs=1e-6)


def test_runs_from_before_have_none(fitted, tmp_path):
    config = read_json(fitted.run / "config.json", "RUN")
    del config["config"]["experts"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    record = RunRecord.read(tmp_path)
    assert record.config == replace(RunRecord.read(fitted.run).config, experts=False)


def test_the_mean_over_steps_leaves_out_padding():
    z, num_steps = with_steps()
    expected = torch.stack([z["audio"][:, i, : num_steps["audio"][i]].mean(1) for i in range(7)], dim=1)
    torch.testing.assert_close(mean_over_steps(z["audio"]), expected)
