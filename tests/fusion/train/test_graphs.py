"""What CUDA graphs are given is tested with stand-ins: this runs anywhere, a GPU only adds the graph itself."""

from dataclasses import replace

import pytest
import torch

from amr.fusion.data.clips import Clips
from amr.fusion.methods import methods
from amr.fusion.train.graphs import CudaGraphs, GraphedStep, can_graph
from amr.fusion.train.recipe import Member
from amr.fusion.train.trainer import train_group

from ..conftest import make_clips, make_recipe

MEMBERS = [Member(seed, (0.3, 0.7), weight) for seed in range(2) for weight in (0.5, 1.0)]


class StandIn:
    """Does the work itself where a graph would be replayed."""

    def __init__(self):
        self.num_recordings = self.num_replays = 0

    def warm_up(self, work):
        work()
        work()

    def record(self, work):
        self.num_recordings += 1

        def replay():
            self.num_replays += 1
            work()

        return replay


class Refusing(StandIn):
    def record(self, work):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")


class Frozen(StandIn):
    """Replays nothing."""

    def record(self, work):
        return lambda: None


class Blind(StandIn):
    """Replays the step on the clips that it was recorded with, wherever the indices are now."""

    def record(self, work):
        captured = work.__self__
        index = captured._index.clone()

        def replay():
            captured._losses.copy_(captured._ordinary(index))

        return replay


def trained(recorder, train, recipe, members=MEMBERS):
    if recorder is None:
        return train_group(recipe, members, train, train)
    return train_group(recipe, members, train, train, make_step=lambda s, clips: GraphedStep(s, clips, recorder))


def assert_same(ours, theirs):
    for name, value in theirs.model.state_dict().items():
        assert torch.equal(ours.model.state_dict()[name], value), name
    for name, value in theirs.history.items():
        assert torch.equal(ours.history[name], value), name


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "adamax"])
@pytest.mark.parametrize("changes", [{}, {"amr_optimizer": "separate"}, {"adapter": "mlp", "hidden": 4}])
def test_replayed_steps_train_as_ordinary_ones(optimizer, changes):
    """Bit for bit, with a smaller last batch (90 clips, 32 a batch) and a learning rate that falls."""
    train = make_clips()
    members = [replace(member, amr_weight=1.0) for member in MEMBERS]
    recipe = make_recipe(train, epochs=4, optimizer=optimizer, lr_step=(2, 0.1), **changes)
    recorder = StandIn()
    assert_same(trained(recorder, train, recipe, members), trained(None, train, recipe, members))
    assert recorder.num_recordings == 2  # one for each learning rate
    assert recorder.num_replays == 4 * 2 + 2  # two whole batches an epoch, and the checks


@pytest.mark.parametrize("method", [name for name in methods if methods[name].graph_safe])
def test_every_method_that_says_so_does_the_same_each_time(method):
    train = make_clips() if method != "unimodal" else make_clips(dims={"audio": 8})
    members = MEMBERS if methods[method].fuses else [Member(0), Member(1)]
    recipe = make_recipe(train, method=method, adapter="linear")
    assert_same(trained(StandIn(), train, recipe, members), trained(None, train, recipe, members))


@pytest.mark.parametrize("recorder", [Refusing(), Frozen(), Blind()])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_recording_that_fails_or_is_wrong_is_not_used(recorder, optimizer):
    train = make_clips()
    recipe = make_recipe(train, optimizer=optimizer)
    with pytest.warns(UserWarning, match="a step could not be recorded") as warned:
        ours = trained(recorder, train, recipe)
    assert len(warned) == 1
    assert_same(ours, trained(None, train, recipe))


def test_a_run_that_diverges_keeps_no_other_from_being_replayed():
    train = make_clips()
    members = [Member(0, (0.5, 0.5), 1.0), Member(0, (0.5, 0.5), 1e38)]
    recipe = make_recipe(train, optimizer="sgd", lr=0.5, lr_step=(2, 0.1))
    recorder = StandIn()
    ours = trained(recorder, train, recipe, members)
    assert ours.diverged.tolist() == [False, True]
    assert recorder.num_recordings == 2
    theirs = trained(None, train, recipe, members)
    for name, value in theirs.model.state_dict().items():
        assert torch.equal(ours.model.state_dict()[name][0], value[0])


def test_only_what_always_does_the_same_from_the_device_is_recorded():
    train = make_clips()
    seen = []

    def make_step(step, clips):
        seen.append(step)
        return lambda index: torch.zeros(2, 4)

    for method in ("naive", "dropout", "ogm-ge"):
        train_group(
            make_recipe(train, method=method, adapter="linear", epochs=1), MEMBERS, train, train, make_step=make_step
        )
    assert [can_graph(step, train) for step in seen] == [True, False, False]
    host = Clips(train.embeddings, train.present.to("meta"), train.target.to("meta"))
    assert not can_graph(seen[0], host)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "adamax"])
@pytest.mark.parametrize("method", [name for name in methods if methods[name].graph_safe])
def test_cuda_graphs_train_as_ordinary_steps(method, optimizer, recwarn):
    clips = make_clips() if method != "unimodal" else make_clips(dims={"audio": 8})
    train = Clips(
        {m: e.cuda() for m, e in clips.embeddings.items()}, clips.present.cuda(), clips.target.cuda()
    )  # fmt: skip
    members = MEMBERS if methods[method].fuses else [Member(0), Member(1)]
    recipe = make_recipe(train, method=method, adapter="linear", optimizer=optimizer)
    theirs = train_group(recipe, members, train, train)
    ours = trained(CudaGraphs(), train, recipe, members)
    assert not [w for w in recwarn if "could not be recorded" in str(w.message)]
    for name, value in theirs.model.state_dict().items():
        torch.testing.assert_close(ours.model.state_dict()[name], value, rtol=1e-3, atol=1e-4)
