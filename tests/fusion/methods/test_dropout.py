import pytest
import torch
from torch.nn.functional import cross_entropy

from amr.fusion.methods.dropout import DropoutOptions
from amr.fusion.run_axis.seeds import generator
from amr.fusion.train.recipe import Member

from ..conftest import make_clips
from .conftest import HALF, SEEDS, assert_same, batch_of, build, fit_group, layers


def test_the_loss_is_that_of_dropout_on_the_concatenated_z():
    clips = make_clips(30)
    method, model = build("dropout", clips, options={"p": 0.3})
    batch = batch_of(clips)
    loss = method.loss(model, batch, model.encode(batch))
    for run, seed in enumerate(SEEDS):
        modules = layers(model, run)
        joined = torch.cat([modules[m](e[run]) for m, e in batch.embeddings.items()], -1)
        draw = torch.rand(joined.shape, generator=generator(seed, "noise"))
        for clip in range(30):
            for unit in range(joined.shape[1]):
                joined[clip, unit] = 0 if draw[clip, unit] < 0.3 else joined[clip, unit] / 0.7
        torch.testing.assert_close(loss[run], cross_entropy(modules["classifier"](joined), batch.target[run]))


@pytest.mark.parametrize("head", ["concat", "sum", "attention"])
@pytest.mark.parametrize("adapter", ["none", "linear"])
@pytest.mark.parametrize("ratio", [None, HALF])
def test_p_zero_is_naive_training_bit_for_bit(head, adapter, ratio):
    train, val = make_clips(), make_clips(40, seed=1)
    members = [Member(0, ratio, 1.0), Member(0, ratio, 0.5), Member(3, ratio, 1.0)]
    plain = fit_group("naive", members, train, val, head=head, adapter=adapter)
    control = fit_group("dropout", members, train, val, {"p": 0.0}, head=head, adapter=adapter)
    assert_same(plain.model.state_dict(), control.model.state_dict())


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_a_p_outside_0_to_1_is_refused(p):
    with pytest.raises(ValueError, match="p must be at least 0 and below 1"):
        DropoutOptions(p)
