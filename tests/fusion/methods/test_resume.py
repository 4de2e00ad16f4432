"""A training that is resumed ends as if it had not been interrupted, whatever its method keeps or draws."""

from copy import deepcopy

import pytest
from torch import Tensor

from amr.fusion.methods import methods
from amr.fusion.train.hooks import EndToEndHooks
from amr.fusion.train.recipe import Member
from amr.fusion.train.trainer import train_group

from ..conftest import make_clips, make_recipe
from .conftest import JOINT, assert_same

CASES = [
    ("agm", {}),
    ("opm", {"warm_up": 0.0}),
    ("dgl", {}),
    ("mmpareto", {}),
    ("cml", {}),
    ("lfm", {"schedule": "fitted"}),
    ("mcr", {}),
    ("smv", {"warm_up": 0.0}),
    ("smv", {"warm_up": 0.0, "level": "modality"}),
    ("remix", {"warm_up": 0.5}),
    ("midas", {"own": True}),
    ("ogm", {"opm": True, "warm_up": 0.0, "both_ways": True}),
    ("ogm-ge", {"opm": True, "warm_up": 0.0, "dominance": "share"}),
    ("multi-loss", {"own": True}),
    ("mla", {}),
    ("reconboost", {}),
    ("pmr", {"momentum": 0.5, "until": 0.7}),
    ("umt", {"priority_epochs": 3}),
    ("gradient-blending", {"own": True, "super_epoch": 1}),
    ("dnr", {}),
    ("inforeg", {"window": 0.5}),
]


class Kept:
    """Callback that keeps the state after the second epoch, and resumes from one."""

    def __init__(self, state=None):
        self.state, self.epochs = state, 0

    def resume(self):
        return self.state

    def epoch(self, epoch_values, state, *, last, val_logits=None):
        self.epochs += 1
        if self.state is None and self.epochs == 2:
            self.state = deepcopy({k: v.clone() if isinstance(v, Tensor) else v for k, v in state().items()})


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_resumed_training_ends_as_an_uninterrupted_one(name, options):
    train, val = make_clips(), make_clips(20, seed=1)
    chosen = methods[name]
    settings = {"head": chosen.head or "concat", "adapter": "linear", "select": "last"}
    recipe = make_recipe(train, method=name, options=chosen.Options(**options), **settings)
    members, kept = [Member(0), Member(3, (0.5, 0.5), 0.3)], Kept()
    whole = train_group(recipe, members, train, val, hooks=EndToEndHooks(callback=kept))
    resumed = train_group(recipe, members, train, val, hooks=EndToEndHooks(callback=Kept(kept.state)))
    assert kept.epochs == 4
    assert_same(resumed.model.state_dict(), whole.model.state_dict())
    assert_same(resumed.history, whole.history)


STEADY = [name for name in JOINT if not methods[name].plans_ahead(methods[name].Options())]


@pytest.mark.parametrize("name", [name for name in STEADY if not methods[name].fits_unimodal])
def test_a_method_that_does_not_plan_ahead_begins_alike_whatever_follows(name):
    """So its training continues to more epochs; that of the others is refused."""
    train, head = make_clips(24), methods[name].head or "concat"
    settings = {"method": name, "adapter": "linear", "head": head, "batch_size": 12}
    short, long = (
        train_group(make_recipe(train, epochs=n, **settings), [Member(0)], train, train).history for n in (2, 9)
    )
    assert_same(short, {key: values[:2] for key, values in long.items()})
