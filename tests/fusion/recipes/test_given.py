"""Settings that are passed to a config win over its recipe, and a recipe is taken only once."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amr.fusion.config import FitConfig
from amr.fusion.end_to_end.config import TrainConfig, TrainSweepConfig
from amr.fusion.frontier.config import FrontierConfig
from amr.fusion.recipes import given as module
from amr.fusion.recipes.given import merged
from amr.fusion.recipes.published import Published, read_recipes
from amr.fusion.swept import SweepConfig

NAME = "crema-d/ogm-ge"
SETTINGS = read_recipes()[NAME].settings
OWN = {
    "optimizer": "sgd",
    "lr": 0.5,
    "momentum": 0.1,
    "weight_decay": 0.0,
    "lr_step": 3,
    "lr_factor": 0.7,
    "batch_size": FitConfig.batch_size,
    "epochs": FitConfig.epochs,  # the default, and still passed
}


@given(st.sets(st.sampled_from(sorted(OWN))))
def test_what_is_passed_wins_also_if_it_equals_the_default(names):
    own = {name: OWN[name] for name in names}
    config = FitConfig(recipe=NAME, **own)
    assert replace(config, recipe=None) == FitConfig(**{**SETTINGS, **own})
    assert FitConfig("sum", recipe=NAME, **own).head == "sum"


def test_the_method_may_be_passed_if_it_is_that_of_the_recipe():
    assert (
        FitConfig(recipe=NAME, method="ogm-ge") == FitConfig("concat", "ogm-ge", recipe=NAME) == FitConfig(recipe=NAME)
    )
    for wrong in (lambda: FitConfig("concat", "naive", recipe=NAME), lambda: FitConfig(recipe=NAME, method="naive")):
        with pytest.raises(ValueError, match="--method must be ogm-ge for --recipe crema-d/ogm-ge, got naive"):
            wrong()


def test_options_of_the_method_are_taken_key_by_key():
    assert merged(("a=1", "b_c=2"), ("b-c = 3", "d=4")) == ("a=1", "b-c = 3", "d=4")
    config = FitConfig(recipe=NAME, method_option={"alpha": 0.3})
    assert config.method_option == ("start_epoch=1", "end_epoch=52", "alpha=0.3")


def test_settings_of_something_that_is_replaced_go_with_it():
    assert FitConfig(recipe=NAME, optimizer="adamw").momentum is None
    assert FitConfig(recipe=NAME, optimizer="sgd").momentum == 0.9
    assert FitConfig(recipe=NAME, lr_step=0).lr_factor is None
    assert FitConfig(recipe="crema-d/agm", lr_step=20).lr_factor == 0.9


def test_copies_records_and_other_processes_keep_what_was_taken(monkeypatch):
    config = FitConfig(recipe=NAME, epochs=10)
    saved = config.to_json()
    changed = {**read_recipes(), NAME: Published(NAME, {**SETTINGS, "lr": 9.0, "epochs": 9}, "another version")}
    monkeypatch.setattr(module, "find_recipe", lambda name: changed[name])
    assert FitConfig(recipe=NAME).lr == 9
    assert replace(config) == config
    assert replace(config, head="sum").lr == 1e-3
    assert pickle.loads(pickle.dumps(config)) == copy.deepcopy(config) == config
    assert FitConfig(**saved | {"method_option": tuple(saved["method_option"])}) == config
    frontier = FrontierConfig(recipe=NAME, lr=0.1)
    assert (frontier.lr, frontier.epochs) == (0.1, 9)
    assert frontier.fit == FitConfig(recipe=NAME, lr=0.1, folds=5)


def test_a_sweep_takes_what_is_not_swept():
    sweep = SweepConfig.parse(swept={"lr": "0.1,0.2", "seed": "0,1", "method": None}, recipe=NAME, epochs=5)
    fits = [FitConfig(recipe=NAME, epochs=5, lr=lr, seed=seed) for lr in (0.1, 0.2) for seed in (0, 1)]
    assert sweep.members() == fits
    assert SweepConfig(FitConfig(recipe=NAME)).members() == [FitConfig(recipe=NAME)]
    with pytest.raises(ValueError, match="--method must be ogm-ge for --recipe crema-d/ogm-ge, got naive"):
        SweepConfig.parse(swept={"method": "naive,ogm-ge"}, recipe=NAME)


def test_a_sweep_of_trainings_takes_what_is_not_swept():
    sweep = TrainSweepConfig.parse(seeds=2, swept={"amr_ratio": "none,1:1"}, dataset="d", recipe=NAME, epochs=5)
    config = TrainConfig(dataset="d", recipe=NAME, epochs=5)
    assert config.objective == "joint"
    assert sweep.members()[0] == config
    assert {member.recipe for member in sweep.members()} == {NAME}
    with pytest.raises(ValueError, match="--method must be ogm-ge for --recipe crema-d/ogm-ge, got dropout"):
        TrainSweepConfig.parse(seeds=None, swept={"method": "dropout"}, dataset="d", recipe=NAME)
    with pytest.raises(
        ValueError, match="--recipe must be used with --objective joint, got crema-d/ogm-ge with unimod"
    ):
        TrainConfig(dataset="d", recipe=NAME, objective="unimodal")
