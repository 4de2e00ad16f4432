"""Explanations of labels and of numbers, against predictions and against float64 by hand."""

from __future__ import annotations

import functools
import json

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from amr.extract.cache.reader import Cache, EmbeddingInfo
from amr.extract.cache.structure import ClipTable
from amr.extract.cache.writer import Embedded, save
from amr.fusion.config import FitConfig
from amr.fusion.explain.config import ExplainConfig
from amr.fusion.explain.explain import explain
from amr.fusion.explain.when import when_it_mattered
from amr.fusion.fit import fit
from amr.fusion.predict import predict

TARGETS = {
    "cells": {"label": "tags", "label_separator": ";"},
    "columns": {"label": "cat,dog,a car", "task": "multilabel"},
    "number": {"label": "score", "task": "regression"},
}
NUM_CLIPS, STEPS = 90, 4
ALL = pytest.mark.parametrize("target", TARGETS)
TASKS = pytest.mark.parametrize("target", ["cells", "number"])
FOLDS = pytest.mark.parametrize("folds", [0, 3])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A workspace with audio of four steps and video; tags and score depend on both; some clips have no target."""
    draws = np.random.default_rng(0)
    audio = draws.normal(size=(NUM_CLIPS, STEPS, 5)).astype(np.float32)
    video = draws.normal(size=(NUM_CLIPS, 6)).astype(np.float32) + 0.5
    heard = audio.mean(1)
    has = np.stack([heard[:, 0] > 0, video[:, 1] > 0.8, heard[:, 2] + video[:, 2] > 1], 1)
    names = ["cat", "dog", "a car"]
    table = pd.DataFrame(
        {
            "id": [f"c{i}" for i in range(NUM_CLIPS)],
            "split": ["train"] * 50 + ["val"] * 20 + ["test"] * 20,
            "tags": [";".join(name for name, h in zip(names, row, strict=True) if h) for row in has],
            "score": np.round(30 + 10 * heard[:, 0] + 5 * video[:, 0], 2).astype(str),
            **{name: has[:, i].astype(int).astype(str) for i, name in enumerate(names)},
        }
    )
    table.loc[0, ["tags", "score", "cat"]] = ["absent", "", "absent"]
    table.loc[1, ["tags", *names]] = ["", "0", "0", "0"]
    infos = [EmbeddingInfo("audio", "audio", "made:steps", "", {}, "float32", 5, STEPS)]
    infos.append(EmbeddingInfo("video", "video", "made:whole", "", {}, "float32", 6))
    here = np.ones(NUM_CLIPS, dtype=bool)
    rows = [Embedded(audio, here, np.full(NUM_CLIPS, STEPS, np.int32)), Embedded(video, here)]
    home = tmp_path_factory.mktemp("tasks")
    (home / "caches").mkdir()
    save(home / "caches/x.h5", ClipTable("made", "", "0" * 64, table), list(zip(infos, rows, strict=True)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMR_HOME", str(home))
        yield home


@pytest.fixture(scope="module")
def fitted(home):
    @functools.cache
    def run(target, **options):
        name = "-".join([target, *map(str, options.values())])
        settings = {"epochs": 8, "lr": 0.05, "device": "cpu", "out": str(home / "runs" / name)} | options
        return fit(FitConfig(cache=str(home / "caches/x.h5"), **TARGETS[target], **settings)).run

    return run


def explained(run, clip):
    """Explanation without the picture, which takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("amr.fusion.explain.explain.draw", lambda *_: None)
        return explain(ExplainConfig(run, clip, device="cpu"))


@ALL
@FOLDS
def test_it_agrees_with_predict_and_writes_a_picture(fitted, target, folds):
    run = fitted(target, folds=folds)
    explanation = explain(ExplainConfig(run, "c75", device="cpu"))
    (prediction,) = predict(run, ["c75"], "cpu")
    assert explanation.pred == prediction.pred
    assert explanation.probabilities == pytest.approx(prediction.probabilities, abs=1e-6)
    assert explanation.share["grad_x_input"] == pytest.approx(prediction.share, abs=1e-6)
    assert [*explanation.share] == ["grad_x_input", "integrated_gradients", "shapley"]
    if target == "number":
        assert f"{explanation.value:.6g}" == prediction.pred
    else:
        assert ";".join(explanation.labels) == prediction.pred
    assert (run / "explain_c75.png").stat().st_size > 10_000
    notes = "; ".join(explanation.notes)
    assert ("mean over 3 folds" in notes) == bool(folds)
    document = json.loads(json.dumps(explanation.to_json(), allow_nan=False))
    assert document["task"] == ("regression" if target == "number" else "multilabel")
    assert document["picture"] == str(run / "explain_c75.png")


class ByHand:
    """A linear run in float64, one fold after the other, on one clip."""

    def __init__(self, run, clip):
        with Cache.open(run.parent.parent / "caches/x.h5") as cache:
            row = cache.table()["id"].tolist().index(clip)
            self.steps, video = (cache.embedding(m)[row].astype(float) for m in ("audio", "video"))
        self.raw = {"audio": self.steps.mean(0), "video": video}
        files = sorted(run.glob("**/weights.safetensors"))
        self.folds = [{k: v.astype(float) for k, v in load_file(file).items()} for file in files]

    def z(self, fold, m, values):
        return (values - fold[f"normalization.{m}.mean"]) / fold[f"normalization.{m}.std"]

    def weight(self, fold):
        whole = fold["head.classifier.weight"]
        return {"audio": whole[:, :5], "video": whole[:, 5:]}

    def outputs(self, fold, without=None):
        kept = [m for m in self.raw if m != without]
        parts = [self.weight(fold)[m] @ self.z(fold, m, self.raw[m]) for m in kept]
        return sum(parts) + fold["head.classifier.bias"]

    def answer(self, without=None):
        """Probabilities or the number, the mean over folds."""
        answers = []
        for fold in self.folds:
            outputs = self.outputs(fold, without)
            if "target.mean_std" in fold:
                mean, std = fold["target.mean_std"]
                answers.append(outputs * std + mean)
            else:
                answers.append(1 / (1 + np.exp(-outputs)))
        return np.mean(answers, axis=0)

    def attributed(self, fold):
        """Weights of the summed log-odds of the predicted labels, or of the number."""
        outputs = self.outputs(fold)
        decided = outputs > 0 if (outputs > 0).any() else outputs == outputs.max()
        chosen = np.ones(1, bool) if "target.mean_std" in fold else decided
        return {m: weight[chosen].sum(0) for m, weight in self.weight(fold).items()}

    def share(self, size):
        """Shares by a size of each modality's products of weight and z, the mean over folds."""
        shares = []
        for fold in self.folds:
            sizes = np.array([size(w * self.z(fold, m, self.raw[m])) for m, w in self.attributed(fold).items()])
            shares.append(sizes / sizes.sum())
        return dict(zip(("audio", "video"), np.mean(shares, axis=0), strict=True))

    def weights_of_steps(self):
        weights = []
        for fold in self.folds:
            norms = np.linalg.norm(self.attributed(fold)["audio"] * self.z(fold, "audio", self.steps), axis=-1)
            weights.append(norms / norms.sum())
        return np.mean(weights, axis=0)


@TASKS
@FOLDS
@pytest.mark.parametrize("clip", ["c1", "c75", "c80"])
def test_every_number_is_that_by_hand(fitted, target, folds, clip):
    run = fitted(target, folds=folds)
    explanation, hand = explained(run, clip), ByHand(run, clip)
    assert len(hand.folds) == max(1, folds)

    def numbers(each):
        return [each.value] if target == "number" else [*each.probabilities.values()]

    np.testing.assert_allclose(numbers(explanation), hand.answer(), rtol=1e-4)
    for m in ("audio", "video"):
        for baseline in ("zero", "mean"):  # standardized: the mean is zero
            np.testing.assert_allclose(
                numbers(explanation.removed[baseline][m]), hand.answer(without=m), rtol=1e-4, atol=1e-5
            )
    assert [*explanation.baselines] == ["zero or mean"]
    for name in ("grad_x_input", "integrated_gradients"):  # of a linear head, both are weight times z
        assert explanation.share[name] == pytest.approx(hand.share(np.linalg.norm), abs=1e-4)
    assert explanation.share["shapley"] == pytest.approx(hand.share(lambda product: abs(product.sum())), abs=1e-4)
    np.testing.assert_allclose(explanation.steps["audio"].weight, hand.weights_of_steps(), rtol=1e-3)


@TASKS
def test_when_it_mattered_is_that_of_the_explanation(fitted, target):
    run = fitted(target, head="attention", hidden=8)
    expected = explained(run, "c75").steps["audio"].weight
    assert sum(expected) == pytest.approx(1)
    found = when_it_mattered(run, {"c75": 0}, {})["c75"]["audio"].weight
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_what_is_true_is_read_from_cells_columns_and_numbers(fitted, home):
    with Cache.open(home / "caches/x.h5") as cache:
        table = cache.table().set_index("id")
    for clip in ("c2", "c75"):
        names = table.at[clip, "tags"].split(";") if table.at[clip, "tags"] else []
        assert sorted(explained(fitted("cells", folds=0), clip).true_labels) == sorted(names)
        assert explained(fitted("columns", folds=0), clip).true_labels == tuple(names)  # in the order of the columns
        number = explained(fitted("number", folds=0), clip)
        assert number.true_value == float(table.at[clip, "score"])
        assert float(number.true) == number.true_value
    for target in ("cells", "columns"):
        none, unknown = (explained(fitted(target, folds=0), clip) for clip in ("c1", "c0"))
        assert (none.true, none.true_labels) == ("", ())
        assert (unknown.true, unknown.true_labels) == (None, None)
    unknown = explained(fitted("number", folds=0), "c0")
    assert (unknown.true, unknown.true_value) == (None, None)


def test_a_cache_with_other_columns_has_no_truth(fitted, monkeypatch):
    run = fitted("cells", folds=0)
    monkeypatch.setattr(Cache, "table", lambda self, table=Cache.table: table(self).drop(columns="tags"))
    explanation = explained(run, "c75")
    assert explanation.true is None
    assert any("no replacement by the train mean: --label" in note for note in explanation.notes)


def test_folds_have_scales_of_their_own(fitted):
    run = fitted("number", folds=3)
    scales = [load_file(run / f"fold-{k}/weights.safetensors")["target.mean_std"] for k in range(3)]
    explanation = explained(run, "c75")
    assert [explanation.train_mean, explanation.train_std] == pytest.approx(np.mean(scales, axis=0))
    assert len({tuple(scale) for scale in scales}) == 3


def test_documents_have_the_keys_of_their_task(fitted):
    common = {"clip", "run", "head", "method", "amr_ratio", "pred", "true", "probabilities", "share", "removed"}
    common |= {"task", "steps", "notes", "picture", "text"}
    labels = explained(fitted("cells", folds=0), "c75").to_json()
    assert labels.keys() - common == {"labels", "true_labels"}
    assert labels["removed"]["zero"]["audio"].keys() == {"pred", "labels", "probabilities"}
    number = explained(fitted("number", folds=0), "c75").to_json()
    assert number.keys() - common == {"column", "value", "true_value", "train_mean", "train_std"}
    assert number["removed"]["mean"]["video"].keys() == {"pred", "value"}
    assert number["column"] == "score"
