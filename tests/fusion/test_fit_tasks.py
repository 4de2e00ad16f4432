"""Fits, sweeps, evaluations and predictions of labels and of numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import amr
from amr.fusion.config import FitConfig
from amr.fusion.data.clips import permutation_orders
from amr.fusion.methods import methods
from amr.fusion.model import predict_logits
from amr.fusion.runs.read import best_run, read_run
from amr.fusion.runs.weights import read_fitted
from amr.fusion.swept import SweepConfig
from amr.fusion.tasks import tasks

TAGS = {"label": "tags", "label_separator": ";"}
NUMBER = {"label": "score", "task": "regression"}
BOTH = pytest.mark.parametrize("target", [TAGS, NUMBER], ids=["labels", "number"])


@pytest.fixture
def fit(tasks_home, tmp_path, monkeypatch):
    monkeypatch.setenv("AMR_HOME", str(tasks_home))

    def fitted(name, **options):
        options = {"epochs": 15, "lr": 0.05, "device": "cpu"} | options
        return amr.fit(FitConfig(out=str(tmp_path / name), **options))

    return fitted


def weights_of(run):
    return load_file(run / "weights.safetensors")


def same_weights(one, other):
    ours, theirs = weights_of(one), weights_of(other)
    return ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)


@BOTH
def test_measures_are_those_of_the_predictions(fit, target):
    result = fit("a", **target, amr_ratio="1:1")
    table = read_run(result.run).predictions()
    if target is NUMBER:
        errors = (table["pred"].astype(float) - table["target"].astype(float)).abs()
        assert result.test["mae"] == pytest.approx(errors.mean(), rel=1e-4)
        assert {"mae", "pearson", "acc2", "acc7", "f1"} < set(result.test)
        assert result.test["mae"] < 0.95  # 1.1 without training
    else:
        assert result.test["accuracy"] == pytest.approx((table["pred"] == table["target"]).mean())
        assert {"accuracy", "map", "f1"} < set(result.test)
        assert result.test["map"] > 0.5
        assert (table["probability_dog"] > 0.5).equals(table["pred"].str.contains("dog"))
    assert result.test["perceptual"]["audio"] > 0.05
    for share in ("share", "share_logit"):
        assert sum(result.test[share].values()) == pytest.approx(1)
    found = amr.predict(result.run, table["id"].tolist())
    if target is NUMBER:
        expected = table["pred"].astype(float)
        assert [float(p.pred) for p in found] == pytest.approx(expected.tolist(), abs=1e-4)
    else:
        assert [p.pred for p in found] == table["pred"].tolist()
        assert found[0].probabilities["dog"] == pytest.approx(table["probability_dog"][0], abs=1e-5)


@BOTH
def test_permutation_shares_are_those_of_the_task_s_divergence(fit, target):
    result = fit("a", **target, amr_ratio="1:1", attribution="permutation", epochs=3)
    data = amr.fusion.data.folds.read_training_data(result.record.config, keep_steps=False)
    model, test = read_fitted(result.run, torch.device("cpu")).models[0], data.folds[0].test
    task = tasks[result.record.config.task]
    logits = predict_logits(model, test)
    apart = torch.stack(
        [
            sum(task.divergence(logits, predict_logits(model, test.with_permuted(m, order))).sum() for order in orders)
            for orders in [permutation_orders(test)]
            for m in model.modalities
        ]
    )
    expected = (apart / apart.sum()).tolist()
    assert list(result.test["share_regularized"].values()) == pytest.approx(expected, abs=1e-4)


@BOTH
def test_use_is_the_score_lost_by_permutation(fit, target):
    result = fit("a", **target)
    data = amr.fusion.data.folds.read_training_data(result.record.config, keep_steps=False)
    head, fold = amr.load_head(result.run), data.folds[0]
    with amr.open_cache("x") as cache:
        raw = {m: torch.from_numpy(cache.embedding(m)).float()[fold.rows.test] for m in cache.names}
    draws = amr.fusion.run_axis.seeds.generator(0, "permutations")
    orders = [torch.randperm(len(fold.test), generator=draws) for _ in range(10)]

    def score(z):
        outputs = head(z).detach()
        if target is NUMBER:
            return -float((outputs[:, 0] - fold.target_scale.undo(fold.test.target)).abs().mean())
        return amr.fusion.tasks.metrics.label_average_precision(outputs, fold.test.target)[0]

    full = score(raw)
    for m in raw:
        lost = full - np.mean([score({**raw, m: raw[m][order]}) for order in orders])
        assert result.test["perceptual"][m] == pytest.approx(lost, abs=1e-5)


@BOTH
@pytest.mark.parametrize("folds", [0, 3])
def test_a_loaded_head_predicts_as_the_run_does(fit, target, folds):
    run = fit("a", **target, folds=folds, epochs=3).run
    with amr.open_cache("x") as cache:
        raw = {m: torch.from_numpy(cache.embedding(m)[:5]).float() for m in cache.names}
    found = amr.predict(run, [f"c{i}" for i in range(5)])
    heads = [amr.load_head(run, fold=k) for k in range(folds)] or [amr.load_head(run)]
    outputs = [head(raw).detach() for head in heads]
    torch.testing.assert_close(amr.load_head(run)(raw).detach(), torch.stack(outputs).mean(0))
    if target is NUMBER:
        expected = [[float(p.pred)] for p in found]
    else:
        outputs = [logits.sigmoid() for logits in outputs]
        expected = [[*p.probabilities.values()] for p in found]
    torch.testing.assert_close(torch.stack(outputs).mean(0), torch.tensor(expected), rtol=1e-4, atol=1e-5)


@BOTH
def test_an_evaluation_has_the_measures_of_the_fit(fit, target):
    result = fit("a", **target, amr_ratio="1:2")
    document = amr.evaluate(amr.EvaluateConfig(result.run, device="cpu", bootstrap=40)).document
    measures, name = document["runs"][0]["measures"], read_run(result.run).score.name
    assert measures[name] == pytest.approx(result.test[name], abs=1e-5)
    for m in ("audio", "video"):
        assert measures["perceptual"][m] == pytest.approx(result.test["perceptual"][m], abs=1e-5)
        assert measures["noise"][m][0] == pytest.approx(measures[name], abs=1e-5)
        assert 0.3 < measures["robustness"][m] < 1.05
    assert "conflict" not in measures
    low, high = document["runs"][0]["intervals"][name]
    assert low < measures[name] < high
    assert low > 0
    rest = {"audio": "video", "video": "audio"}
    for m in rest:  # use is the difference of scores, in the direction in which it is lost
        without = measures["missing"]["permutation"][rest[m]]
        lost = without - measures[name] if target is NUMBER else measures[name] - without
        assert measures["perceptual"][m] == pytest.approx(lost, abs=1e-5)


@BOTH
def test_a_member_of_a_sweep_is_the_fit_of_its_settings(fit, target, tmp_path):
    base = FitConfig(**target, epochs=4, lr=0.05, device="cpu", out=str(tmp_path / "sweep"))
    amr.sweep(SweepConfig(base, amr_ratio=["none", "1:1"], seed=[0, 1], attribution=["permutation"]))
    run = best_run(tmp_path / "sweep")
    c = run.config
    alone = fit("alone", **target, epochs=4, amr_ratio=c.amr_ratio, seed=c.seed, attribution=c.attribution)
    ours, theirs = weights_of(run.folder), weights_of(alone.run)
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-4, atol=1e-6)
    runs = [read_run(each.parent) for each in (tmp_path / "sweep").glob("runs/*/metrics.json")]
    best = max(runs, key=lambda each: each.score.gain(each.val[each.score.name]))
    assert run.val[run.score.name] == best.val[best.score.name]


@BOTH
def test_weight_zero_is_plain_training(fit, target):
    assert same_weights(fit("plain", **target).run, fit("zero", **target, amr_ratio="1:1", amr_weight=0).run)


@BOTH
def test_methods_train_and_those_of_classes_are_refused(fit, target):
    own = {"method_option": ("own=true",)}
    for method in ("modality-dropout", "dropout", "gradient-blending", "multi-loss", "unimodal"):
        options = {"modalities": "audio"} if method == "unimodal" else own if methods[method].for_any_task else {}
        assert fit(method, **target, method=method, epochs=2, **options).test["num_clips"] > 0
    assert fit("umt", **target, method="umt", adapter="linear", epochs=2).test["num_clips"] > 0
    share = {"adapter": "linear", "method_option": ("dominance=share",)}
    for method in ("ogm", "ogm-ge"):
        result = fit(f"{method}-share", **target, method=method, epochs=2, **share)
        coefficients = read_run(result.run).history()[["coefficient_audio", "coefficient_video"]]
        assert (coefficients.min(axis=1) < 1).all()
        with pytest.raises(ValueError, match="Pass --method-option dominance=share, or choose another method"):
            fit(method, **target, method=method, adapter="linear")
    for method in ("ogm-ge", "ogm", "gge", "ume"):
        with pytest.raises(ValueError, match=f"got {method}: its formula needs a softmax over classes"):
            fit(method, **target, method=method, adapter="linear")


def test_columns_and_cells_of_the_same_labels_give_the_same_head(fit):
    cells = fit("cells", **TAGS)
    columns = fit("columns", label="car,cat,dog", task="multilabel")
    assert cells.record.classes == columns.record.classes
    assert cells.test["num_clips"] == columns.test["num_clips"]  # the clip that is absent is a train clip
    config = json.loads((cells.run / "config.json").read_text())["config"]
    assert config["task"] == "multilabel"


def test_folds_are_scaled_by_their_own_train_clips_and_averaged(fit):
    result = fit("folds", **NUMBER, folds=3, regression_loss="l1")
    assert result.test["mae"] == pytest.approx(np.mean([fold["test"]["mae"] for fold in result.folds]))
    scales = [weights_of(result.run / f"fold-{k}")["target.mean_std"] for k in range(3)]
    assert len({tuple(scale.tolist()) for scale in scales}) == 3
    assert amr.predict(result.run, ["c3"])[0].note == "mean over 3 folds"


def test_balanced_classes_change_the_loss(fit):
    plain, balanced = fit("plain", label="cat"), fit("balanced", label="cat", class_weight="balanced")
    assert not same_weights(plain.run, balanced.run)
    assert 0 < balanced.test["balanced_accuracy"] < 1
    assert not same_weights(fit("p", **TAGS).run, fit("b", **TAGS, class_weight="balanced").run)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_separator": ";", "task": "regression"}, "--label-separator must be used with --task multilabel"),
        ({"label_separator": ""}, "--label-separator must not be empty"),
        ({"regression_loss": "l1"}, "--regression-loss must be used with --task regression, got l1 with multiclass"),
        ({"task": "regression", "class_weight": "balanced"}, "--class-weight must be used with classes or labels"),
        ({"task": "multiclas"}, "Did you mean multiclass"),
    ],
)
def test_options_of_other_tasks_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FitConfig(**options)


def test_commands_that_know_classes_alone_refuse_other_runs(fit):
    run = fit("a", **NUMBER, epochs=1).run
    with pytest.raises(ValueError, match="--against must be used with runs that predict classes"):
        amr.evaluate(amr.EvaluateConfig(run, against="people"))
    with pytest.raises(ValueError, match="attribution-output must be probability or logit for --task regression"):
        fit("b", **NUMBER, attribution_output="centered")
