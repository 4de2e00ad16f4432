"""A fitted run as a module gives the same probabilities as `predict`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import amr
from amr.extract.cache.reader import EmbeddingInfo, open_cache
from amr.extract.cache.structure import ClipTable
from amr.extract.cache.writer import Embedded, save
from amr.fusion.config import FitConfig
from amr.fusion.fit import fit
from amr.fusion.predict import predict
from amr.fusion.runs.read import best_run
from amr.fusion.sweep.sweep import sweep
from amr.fusion.swept import SweepConfig

from ..heads.test_steps import write_cache


def fitted(cache, **changes):
    settings = {"cache": str(cache), "epochs": 3, "amr_ratio": "1:1", "device": "cpu"}
    return fit(FitConfig(**settings | changes)).run


def read(cache):
    with open_cache(cache) as opened:
        embeddings = {name: torch.from_numpy(opened.embedding(name)) for name in opened.names}
        present = torch.from_numpy(np.stack([opened.present(name) for name in opened.names], -1))
        num_steps = {m: torch.from_numpy(n) for m in opened.names if (n := opened.num_steps(m)) is not None}
        return opened.table()["id"].tolist(), embeddings, present, num_steps


@pytest.mark.parametrize("changes", [{}, {"adapter": "mlp", "hidden": 4}, {"normalize": "none"}, {"method": "ume"}])
def test_probabilities_are_those_of_predict(small_cache, changes):
    run = fitted(small_cache, **({"amr_ratio": None} | changes if "method" in changes else changes))
    ids, embeddings, present, _ = read(small_cache)
    head = amr.load_head(run)
    assert (head.modalities, head.classes, head.training) == (("audio", "video"), ("0", "1", "2"), False)
    p = head(embeddings, present).softmax(-1)
    for id_, row, theirs in zip(ids, p, predict(run, ids, "cpu"), strict=True):
        assert row.tolist() == pytest.approx(list(theirs.probabilities.values()), abs=1e-6), id_


@pytest.mark.parametrize("name", ["attention", "concat"])
def test_steps_are_kept_or_averaged_as_the_head_needs_them(tmp_path, name):
    cache = write_cache(tmp_path / "steps.h5")
    run = fitted(cache, head=name, hidden=8, out=str(tmp_path / "run"))
    ids, embeddings, present, num_steps = read(cache)
    p = amr.load_head(run)(embeddings, present, num_steps).softmax(-1)
    for row, theirs in zip(p, predict(run, ids, "cpu"), strict=True):
        assert row.tolist() == pytest.approx(list(theirs.probabilities.values()), abs=1e-5)


def test_a_run_is_found_by_name_and_a_sweep_by_its_best_run(small_cache, workspace):
    named = fitted(small_cache, out="named")
    assert named == workspace / "runs/named"
    base = FitConfig(cache=str(small_cache), epochs=2, device="cpu", out="ratios")
    folder = sweep(SweepConfig(base, ("concat",), ("naive",), (None, "1:3"), (1.0,), (0.01,), (0, 1))).folder
    for name, run in (("named", named), ("ratios", best_run(folder).folder)):
        theirs = amr.load_head(run).state_dict()
        for key, value in amr.load_head(name).state_dict().items():
            torch.testing.assert_close(value, theirs[key], rtol=0, atol=0)


def test_double_precision_agrees_and_gradients_reach_the_input(small_cache):
    run = fitted(small_cache)
    _, embeddings, present, _ = read(small_cache)
    single, double = amr.load_head(run), amr.load_head(run).double()
    logits = double({m: e.double() for m, e in embeddings.items()}, present)
    assert logits.dtype == torch.float64
    torch.testing.assert_close(single(embeddings, present).double(), logits, atol=1e-5, rtol=1e-5)
    audio = embeddings["audio"].requires_grad_()
    single({**embeddings, "audio": audio}).sum().backward()
    assert audio.grad.abs().sum() > 0


def test_a_modality_that_is_left_out_is_absent(small_cache):
    run = fitted(small_cache)
    _, embeddings, present, _ = read(small_cache)
    head = amr.load_head(run)
    only_audio = present & torch.tensor([True, False])
    torch.testing.assert_close(head({"audio": embeddings["audio"]}), head(embeddings, only_audio))
    garbage = {**embeddings, "video": torch.full_like(embeddings["video"], torch.nan)}
    torch.testing.assert_close(head(garbage, only_audio), head(embeddings, only_audio))


def test_folds_are_averaged_or_selected(small_cache):
    run = fitted(small_cache, folds=3)
    _, embeddings, present, _ = read(small_cache)
    heads = [amr.load_head(run, fold=k) for k in range(3)]
    mean = torch.stack([head(embeddings, present).log_softmax(-1) for head in heads]).mean(0)
    torch.testing.assert_close(amr.load_head(run)(embeddings, present), mean)
    with pytest.raises(ValueError, match="fold must be from 0 to 2, got 3"):
        amr.load_head(run, fold=3)
    with pytest.raises(ValueError, match="fold must be left out for a run without folds, got 0"):
        amr.load_head(fitted(small_cache), fold=0)


def test_a_modality_that_no_train_clip_has_changes_no_prediction(tmp_path):
    rng = np.random.default_rng(0)
    target = np.arange(60) % 3
    audio = np.eye(3, 4)[target] + 0.3 * rng.normal(size=(60, 4))
    video = 5 * rng.normal(size=(60, 4))
    present = np.arange(60) >= 40  # video, in test only
    splits = ["train"] * 30 + ["val"] * 10 + ["test"] * 20
    clips = ClipTable("x", "", "0", _table(target, splits))
    infos = [EmbeddingInfo(m, m, "import:x", "", {}, "float32", 4) for m in ("audio", "video")]
    rows = [Embedded(audio.astype("f4"), np.ones(60, bool)), Embedded((video * present[:, None]).astype("f4"), present)]
    save(tmp_path / "x.h5", clips, list(zip(infos, rows, strict=True)))
    result = fit(FitConfig(cache=str(tmp_path / "x.h5"), epochs=20, device="cpu", out=str(tmp_path / "run")))
    ids = [str(i) for i in range(40, 60)]
    predictions = predict(result.run, ids, "cpu")
    accuracy = np.mean([p.pred == str(t) for p, t in zip(predictions, target[40:], strict=True)])
    assert accuracy == pytest.approx(result.test["accuracy"])
    assert "no training clip had video" in predictions[0].note
    with open_cache(tmp_path / "x.h5") as opened:
        both = {m: torch.from_numpy(opened.embedding(m)) for m in ("audio", "video")}
    head = amr.load_head(result.run)
    torch.testing.assert_close(head(both), head({"audio": both["audio"]}))


def _table(target, splits):
    import pandas as pd

    return pd.DataFrame({"id": [str(i) for i in range(60)], "split": splits, "label": [str(t) for t in target]})


@pytest.mark.parametrize(
    ("embeddings", "present", "message"),
    [
        ({}, None, "embeddings must be named audio, video, got none"),
        ({"sound": torch.zeros(2, 10)}, None, "embeddings must be named audio, video, got sound"),
        ({"audio": torch.zeros(2, 9)}, None, r"audio must be \(batch, 10\) or .*, got \(2, 9\)"),
        ({"audio": torch.zeros(2, 10), "video": torch.zeros(3, 10)}, None, "one batch size, got"),
        ({"audio": torch.zeros(2, 10)}, torch.ones(2, 1, dtype=torch.bool), r"present must be bool \(2, 2\)"),
        ({"audio": torch.zeros(2, 10)}, torch.ones(2, 2), r"present must be bool \(2, 2\), got torch.float32"),
    ],
)
def test_wrong_input_is_refused(small_cache, embeddings, present, message):
    with pytest.raises(ValueError, match=message):
        amr.load_head(fitted(small_cache, epochs=1))(embeddings, present)
