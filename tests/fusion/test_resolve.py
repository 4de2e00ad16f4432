"""Optimizer, momentum and schedule of a fit: the method's own, or what is requested."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import load_file

from amr.fusion.config import FitConfig
from amr.fusion.data.folds import read_training_data
from amr.fusion.fit import fit
from amr.fusion.methods import methods
from amr.fusion.model import FusionModel
from amr.fusion.resolve import default_settings, recipe_of, record_of, resolve, schedule
from amr.fusion.runs.record import RunRecord
from amr.fusion.sweep.sweep import sweep
from amr.fusion.swept import SweepConfig
from amr.fusion.train.recipe import Member
from amr.fusion.train.step import OptimizerStep

NAME = "crema-d/ogm-ge"
LINEAR = {"cache": "small", "adapter": "linear", "adapter_dim": 4, "device": "cpu"}


def trainer_settings(config: FitConfig):
    data = read_training_data(config, keep_steps=False)
    return recipe_of(record_of(resolve(config, data.dataset), data))


@pytest.mark.parametrize("method", [name for name in methods if not methods[name].needs_encoders])
def test_without_a_request_momentum_and_schedule_are_the_method_s(small_home, method):
    modalities = "audio" if methods[method].single_modality else None
    config = FitConfig(**LINEAR, method=method, modalities=modalities)
    data = read_training_data(config, keep_steps=False)
    resolved = resolve(config, data.dataset)
    recipe = recipe_of(record_of(resolved, data))
    assert (recipe.lr_step, recipe.momentum) == (methods[method].lr_step, 0.9)
    assert resolve(resolved, data.dataset) == resolved
    defaults = default_settings(method)
    assert {name: getattr(resolved, name) for name in defaults} == defaults
    # a run that did not save them was trained with the same ones
    assert recipe_of(record_of(replace(resolved, lr_step=None, lr_factor=None, momentum=None), data)) == recipe


@pytest.mark.parametrize(
    ("method", "request_", "expected"),
    [
        ("naive", (None, None), (0, None)),
        ("naive", (0, None), (0, None)),
        ("naive", (5, None), (5, 0.1)),
        ("naive", (5, 0.0), (5, 0.0)),
        ("ogm-ge", (None, None), (70, 0.1)),
        ("ogm-ge", (0, None), (0, None)),
        ("ogm-ge", (None, 0.5), (70, 0.5)),
        ("agm", (20, None), (20, 0.9)),
    ],
)
def test_a_schedule_is_requested_in_parts(method, request_, expected):
    step, factor = request_
    assert schedule(FitConfig(method=method, lr_step=step, lr_factor=factor), methods[method]) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr_factor": 0.5}, "--lr-factor must be used with --lr-step, got 0.5 without it. Add --lr-step 70, or leave"),
        ({"method": "ogm-ge", "lr_step": 0, "lr_factor": 0.5}, "--lr-factor must be used with --lr-step, got 0.5"),
        ({"momentum": 0.5}, "--momentum must be used with --optimizer sgd, got 0.5 with adamw"),
        ({"momentum": 0.5, "method": "gge"}, "--momentum must be used with --optimizer sgd, got 0.5 with adamax"),
    ],
)
def test_what_has_no_effect_is_refused(small_home, changes, message):
    with pytest.raises(ValueError, match=message):
        trainer_settings(FitConfig(**LINEAR, **changes))


def test_wrong_values_are_refused_without_data():
    for changes, message in (
        ({"momentum": 1.0}, "--momentum must be from 0 to below 1, got 1.0. The default is 0.9."),
        ({"momentum": float("nan")}, "--momentum must be finite and 0 or more, got nan"),
        ({"momentum": 0.5, "optimizer": "adam"}, "--momentum must be used with --optimizer sgd, got 0.5 with adam"),
        ({"lr_step": -1}, "--lr-step must be 0 or more, got -1. Leave it out for the default."),
        ({"lr_factor": 1.5}, "--lr-factor must be from 0 to 1, got 1.5"),
    ):
        with pytest.raises(ValueError, match=message):
            FitConfig(**changes)


@pytest.mark.parametrize(("step", "factor"), [(1, 0.5), (3, 0.1), (4, 0.0), (2, 1.0)])
def test_the_learning_rate_is_that_of_step_lr(small_home, step, factor):
    recipe = trainer_settings(FitConfig(**LINEAR, optimizer="sgd", lr=0.2, lr_step=step, lr_factor=factor))
    model = FusionModel(recipe.shape, [0])
    ours = OptimizerStep(recipe, [Member(0)], model, methods["naive"].loss)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.2)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step, factor)
    for epoch in range(1, 12):
        ours.set_lr(epoch)
        assert ours.optimizer.param_groups[0]["lr"] == pytest.approx(scheduler.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        scheduler.step()


@pytest.fixture(scope="module")
def by_recipe(small_home):
    return fit(FitConfig(**LINEAR, recipe=NAME, epochs=4, lr_step=2, momentum=0.5))


def test_a_fit_by_a_recipe_is_the_fit_with_its_values_typed_out(by_recipe):
    """Bit for bit, and the record says so."""
    typed = fit(
        FitConfig(
            **LINEAR,
            method="ogm-ge",
            optimizer="sgd",
            lr=1e-3,
            momentum=0.5,
            weight_decay=1e-4,
            lr_step=2,
            lr_factor=0.1,
            batch_size=64,
            epochs=4,
            method_option=("alpha=0.8", "start_epoch=1", "end_epoch=52"),
        )
    )
    ours, theirs = (load_file(result.run / "weights.safetensors") for result in (by_recipe, typed))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    config = RunRecord.read(by_recipe.run).config
    assert config == by_recipe.record.config
    assert config.recipe == NAME
    changed = {name for name, value in asdict(config).items() if value != asdict(typed.record.config)[name]}
    assert changed == {"recipe", "out"}


def test_momentum_and_schedule_reach_the_training(by_recipe):
    for changes in ({"momentum": 0.9}, {"momentum": 0.5, "lr_step": 0}):
        other = fit(FitConfig(**LINEAR, recipe=NAME, epochs=4, **{"lr_step": 2, **changes}))
        name = "head.classifier.weight"
        ours, theirs = (load_file(result.run / "weights.safetensors")[name] for result in (by_recipe, other))
        assert not torch.equal(ours, theirs)


def test_a_member_of_a_sweep_by_a_recipe_is_the_fit(by_recipe):
    base = FitConfig(**LINEAR, recipe=NAME, epochs=4, lr_step=2, momentum=0.5)
    result = sweep(SweepConfig(base, lr=(1e-3, 1e-2), group_size=1))
    assert {row["lr"] for row in result.rows} == {1e-3, 1e-2}
    folder = next(path for path in (result.folder / "runs").iterdir() if "lr-0.001" in path.name)
    assert replace(RunRecord.read(folder).config, out=None) == replace(by_recipe.record.config, out=None)
    ours, theirs = (load_file(place / "weights.safetensors") for place in (by_recipe.run, folder))
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-6)


def test_a_run_of_version_0_1_has_the_schedule_that_it_was_trained_with(by_recipe, tmp_path):
    """It saved neither schedule nor momentum; the same request is the same run."""
    for changes, expected in (
        ({}, (0.9, 70, 0.1)),
        ({"method": "naive", "optimizer": "adamw", "method_option": []}, (None, 0, None)),
        ({"method": "naive", "method_option": []}, (0.9, 0, None)),
    ):
        document = json.loads((by_recipe.run / "config.json").read_text())
        for name in ("recipe", "momentum", "lr_step", "lr_factor"):
            del document["config"][name]
        document["config"] |= changes
        (tmp_path / "config.json").write_text(json.dumps(document))
        config = RunRecord.read(tmp_path).config
        assert (config.momentum, config.lr_step, config.lr_factor) == expected
        assert config.recipe is None


@pytest.mark.parametrize(
    "options", [{"hidden": 8}, {"experts": True}, {"head": "cosine"}, {"head_option": ("scale=3",)}]
)
def test_a_fit_says_which_settings_of_a_head_its_method_replaces(small_home, options):
    config = FitConfig(cache="small", method="mla", adapter="linear", epochs=1, device="cpu", out="own")
    name = next(iter(options)).replace("_", "-")
    result = fit(replace(config, **options))
    assert result.record.notes[0] == f"--{name} has no effect: --method mla has a head of its own"
    assert fit(replace(config, out="again", head="mla")).record.notes == result.record.notes[1:]
    shutil.rmtree(result.run)
    shutil.rmtree(result.run.parent / "again")
