"""CML: the penalty of the paper, clip by clip, and weight 0."""

import pytest
import torch

from amr.fusion.methods.cml import CMLOptions
from amr.fusion.train.recipe import Member

from ..conftest import make_clips
from .conftest import assert_same, batch_of, build, fit_group, gradients, with_gaps

NAMES = ("audio", "video")


def slow_penalty(model, batch, run, first):
    """Mean penalty of a run whose chain begins with the modality `first`, in float64, one clip at a time."""
    head = model.head.classifier
    weight, bias = head.weight[run].detach().double(), head.bias[run].detach().double()
    columns = dict(zip(NAMES, weight.split([batch.embeddings[m].shape[-1] for m in NAMES], dim=-1), strict=True))
    total = 0.0
    for clip, y in enumerate(batch.target[run].tolist()):
        z = {m: batch.embeddings[m][run, clip].double() for m in NAMES}
        alone = (columns[first] @ z[first] + bias).softmax(-1)
        both = (sum(columns[m] @ z[m] for m in NAMES) + bias).softmax(-1)
        excused = int(alone.argmax()) == y and int(both.argmax()) != y
        counted = bool(batch.present[run, clip, NAMES.index(first)]) and not excused
        total += max(0.0, float(alone.max() - both.max())) * counted
    return total / batch.target.shape[1]


@pytest.mark.parametrize("gaps", [False, True])
def test_with_two_modalities_it_is_the_paper_s_formula(gaps):
    train = with_gaps(make_clips(30)) if gaps else make_clips(30)
    method, model = build("cml", train, options={"weight": 0.7}, adapter="none")
    naive, _ = build("naive", train, adapter="none")
    batch = batch_of(train)
    state = method.context.noise.state()
    order = method.context.noise.uniform(2)  # (run, modalities): the modality with the larger number is first
    method.context.noise.load(state)
    loss, _ = gradients(method, model, batch)
    joint, _ = gradients(naive, model, batch)
    firsts = [NAMES[int(draws.argmax())] for draws in order]
    penalty = torch.tensor([slow_penalty(model, batch, run, m) for run, m in enumerate(firsts)])
    assert penalty.min() > 0
    torch.testing.assert_close(loss, joint + 0.7 * penalty, rtol=1e-5, atol=1e-6)


def test_weight_0_is_naive_training_bit_for_bit():
    train, val = make_clips(), make_clips(40, seed=1)
    ours = fit_group("cml", [Member(0)], train, val, {"weight": 0.0})
    assert_same(ours.model.run_state(0), fit_group("naive", [Member(0)], train, val).model.run_state(0))


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match="weight must be a finite number, 0 or more, got -1"):
        CMLOptions(-1.0)
