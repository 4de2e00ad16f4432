from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from amr.fusion.config import FitConfig
from amr.fusion.evaluate.config import EvaluateConfig
from amr.fusion.evaluate.evaluate import OF_MODELS, evaluate
from amr.fusion.evaluate.references.gain import Gain
from amr.fusion.evaluate.references.information import Information
from amr.fusion.evaluate.references.ogr import Ogr
from amr.fusion.evaluate.references.probe import ProbeAccuracy
from amr.fusion.evaluate.references.unimodal import ume_config
from amr.fusion.model import FusionModel
from amr.fusion.report.tables import measure_words
from amr.fusion.sweep.sweep import sweep
from amr.fusion.swept import SweepConfig

from .conftest import make_compared

MEASURES = (Gain, Information, ProbeAccuracy, Ogr)
every_measure = pytest.mark.parametrize("measure", [each() for each in MEASURES], ids=lambda m: type(m).__name__)


@every_measure
def test_values_are_one_per_run_and_clip_and_have_words(measure):
    subject = make_compared({"audio": 5, "video": 4}, adapter="linear")
    found = measure.per_clip(subject)
    means = {name: np.nanmean(values.numpy(), axis=1) for name, values in found.items()}
    assert found
    for values in found.values():
        assert values.shape == (3, 50)
        assert values.device.type == "cpu"
    for name in {**found, **measure.derived(means, subject.modalities)}:
        assert "_" not in measure_words(".".join(name))


@every_measure
def test_run_i_of_a_group_is_the_run_alone(measure):
    subject = make_compared({"audio": 5, "video": 4}, adapter="linear")
    group = measure.per_clip(subject)
    for run in range(3):
        model = FusionModel(subject.model.shape, [0]).eval()
        model.load_state_dict({name: value[run : run + 1] for name, value in subject.model.state_dict().items()})
        reference, one = subject.reference, slice(run, run + 1)
        initial = replace(reference.initial, own_row=reference.initial.own_row[one])
        alone = replace(subject, model=model, reference=replace(reference, row=reference.row[one], initial=initial))
        for name, values in measure.per_clip(alone).items():
            torch.testing.assert_close(values[0], group[name][run], equal_nan=True)


@every_measure
def test_a_subject_without_reference_has_none(measure):
    subject = make_compared({"audio": 5, "video": 4})
    assert measure.per_clip(replace(subject, reference=None)) == {}
    assert measure.derived({}, subject.modalities) == {}


def make_sweep(cache, methods, ratios=(None, "1:1"), **changes):
    base = FitConfig(**{"cache": str(cache), "epochs": 3, "lr": 0.01, "device": "cpu", **changes})
    return sweep(SweepConfig(base, ("concat",), methods, ratios, (None,), (base.lr,), (0, 1))).folder


def runs_of(folder):
    return evaluate(EvaluateConfig(folder, bootstrap=20, noise_draws=1, device="cpu")).document["runs"]


@pytest.mark.parametrize("folds", [0, 3])
@pytest.mark.parametrize("adapter", ["none", "linear"])
def test_the_unimodal_heads_are_those_of_the_unimodal_runs(small_cache, folds, adapter):
    folder = make_sweep(small_cache, ("naive", "unimodal"), folds=folds, adapter=adapter)
    runs = runs_of(folder)
    alone = {(run["modalities"][0], run["seed"]): run["measures"] for run in runs if run["method"] == "unimodal"}
    values = pd.read_csv(folder / "evaluation.csv").set_index(["run", "measure"])["value"]
    for run in runs:
        if run["method"] == "unimodal":
            assert run["measures"]["gain_over_best_unimodal"] is None
            continue
        measures = run["measures"]
        for m in ("audio", "video"):
            found = measures["unimodal_accuracy"][m]
            assert found == pytest.approx(alone[m, run["seed"]]["accuracy"], abs=1e-6)
            assert values[run["run"], f"ogr.unimodal.{m}"] == pytest.approx(measures["ogr"]["unimodal"][m], abs=1e-5)
        best = sum(measures["best_unimodal"][m] * measures["unimodal_accuracy"][m] for m in ("audio", "video"))
        if not folds:
            gain = measures["gain_over_best_unimodal"]
            assert gain == pytest.approx(measures["accuracy"] - best, abs=1e-5)
        assert ("probe" in measures) == (adapter == "linear")
        low, high = run["intervals"]["information.synergy"]
        assert low <= measures["information"]["synergy"] <= high
        assert not any(name.startswith(OF_MODELS) for name in run["intervals"])


def test_measures_of_the_unimodal_heads_are_not_compared_with_themselves(small_cache):
    document = evaluate(EvaluateConfig(make_sweep(small_cache, ("naive",)), bootstrap=0, noise_draws=1, device="cpu"))
    names = {entry["measure"] for entry in document.document["comparisons"]}
    assert {"gain_over_best_unimodal", "information.joint", "information.synergy", "ogr.joint"} <= names
    assert not [name for name in names if "unimodal" in name.removeprefix("gain_over_best_unimodal")]
    assert not {"information.redundancy", "information.unique.audio", "information.label"} & names


def test_ume_is_compared_with_its_best_member(small_cache):
    for run in runs_of(make_sweep(small_cache, ("ume",), (None,))):
        assert run["measures"]["gain_over_ume"] is None
        assert run["measures"]["gain_over_best_unimodal"] is not None
        assert "probe" not in run["measures"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (None, None, None, None)),  # the method's own are not those of UME
        ({"lr_step": 0, "lr_factor": None}, (None, None, 0, None)),
        ({"lr_step": 5}, (None, None, 5, 0.1)),
        ({"momentum": 0.5}, (None, None, None, None)),
        ({"method": "naive", "momentum": 0.5, "lr_step": 5}, ("sgd", 0.5, 5, 0.1)),
        ({"recipe": "crema-d/ogm-ge"}, (None, None, None, None)),
    ],
)
def test_ume_has_the_optimizer_of_the_fit_unless_that_is_the_method_s_own(changes, expected):
    own = {"method": "ogm-ge", "optimizer": "sgd", "momentum": 0.9, "lr_step": 70, "lr_factor": 0.1}
    config = ume_config(replace(FitConfig(**own), **changes))
    assert (config.optimizer, config.momentum, config.lr_step, config.lr_factor) == expected
    assert (config.method, config.recipe) == ("ume", None)
