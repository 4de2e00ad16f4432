import numpy as np
import pandas as pd
import pytest
import torch

import amr
from amr.fusion.config import FitConfig
from amr.fusion.data.clips import Batch
from amr.fusion.evaluate.config import EvaluateConfig
from amr.fusion.evaluate.evaluate import evaluate
from amr.fusion.explain.config import ExplainConfig
from amr.fusion.explain.explain import explain
from amr.fusion.fit import fit
from amr.fusion.heads import heads
from amr.fusion.predict import predict
from amr.fusion.runs.weights import read_fitted
from amr.fusion.sweep.sweep import sweep
from amr.fusion.swept import SweepConfig
from amr.fusion.train.recipe import Member

from ..conftest import make_clips
from .conftest import batch_of, fit_group, with_gaps

IDS = [f"a{i // 10:02d}_c{i:03d}" for i in range(80, 120)]


def config(cache, **changes):
    return FitConfig(**{"cache": str(cache), "epochs": 5, "lr": 0.01, "device": "cpu", **changes})


def probabilities(run):
    """`(clips, classes)` of `IDS`."""
    return np.array([list(each.probabilities.values()) for each in predict(run, IDS, "cpu")])


def unimodal_probabilities(cache, **settings):
    """The uni-modal runs' `(clips, classes)`, audio and video."""
    runs = [fit(config(cache, method="unimodal", modalities=m, **settings)).run for m in ("audio", "video")]
    return [probabilities(run) for run in runs]


def weighted(weights):
    return {"method": "ume", "method_option": (f"weights={weights}",)}


@pytest.mark.parametrize("adapter", ["none", "linear"])
@pytest.mark.parametrize("seed", [0, 4])
def test_it_is_the_mean_of_the_softmaxes_of_unimodal_runs(small_cache, adapter, seed):
    settings = {"adapter": adapter, "seed": seed}
    ensemble = fit(config(small_cache, method="ume", **settings))
    audio, video = unimodal_probabilities(small_cache, **settings)
    np.testing.assert_allclose(probabilities(ensemble.run), (audio + video) / 2, atol=1e-5)


@pytest.mark.parametrize(("weights", "of_audio"), [("3:1", 0.75), ("video=1:audio=3", 0.75), ("1:0", 1), ("0:2", 0)])
@pytest.mark.parametrize("adapter", ["none", "linear"])
def test_with_weights_it_is_the_log_opinion_pool_of_unimodal_runs(small_cache, adapter, weights, of_audio):
    ensemble = fit(config(small_cache, adapter=adapter, **weighted(weights)))
    audio, video = unimodal_probabilities(small_cache, adapter=adapter)
    pooled = audio**of_audio * video ** (1 - of_audio)
    np.testing.assert_allclose(probabilities(ensemble.run), pooled / pooled.sum(1, keepdims=True), atol=1e-5)


def test_a_weighted_run_answers_alike_in_every_command(small_cache):
    result = fit(config(small_cache, **weighted("3:1")))
    assert result.record.config.head_option == result.record.config.method_option == ("weights=3:1",)
    table = pd.read_csv(result.run / "predictions.csv", dtype={"pred": str}).set_index("id")
    assert 0.5 < result.test["share"]["audio"] < 1
    assert amr.load_head(result.run).model.head.weights.tolist() == [0.75, 0.25]
    for clip in predict(result.run, IDS[20:], "cpu"):
        assert clip.pred == table.loc[clip.clip, "pred"]
        assert clip.share["audio"] == pytest.approx(table.loc[clip.clip, "share_audio"], abs=1e-4)
    explained = explain(ExplainConfig(result.run, IDS[-1], device="cpu"))
    assert explained.share["grad_x_input"]["audio"] == pytest.approx(table.loc[IDS[-1], "share_audio"], abs=1e-4)
    (entry,) = evaluate(EvaluateConfig(result.run, bootstrap=0, noise_draws=1, device="cpu")).document["runs"]
    assert entry["measures"]["accuracy"] == pytest.approx(result.test["accuracy"])
    assert entry["measures"]["share"]["audio"] == pytest.approx(result.test["share"]["audio"], abs=1e-4)
    assert entry["measures"]["gain_over_ume"] is None


def test_runs_of_a_sweep_have_their_own_weights_and_the_gain_is_over_the_mean(small_cache):
    fits = (config(small_cache, method="ume"), *(config(small_cache, **weighted(text)) for text in ("1:0", "1:5")))
    result = sweep(SweepConfig(config(small_cache), also=fits))
    runs = {folder: read_fitted(folder).record.config for folder in (result.folder / "runs").iterdir()}
    assert len(runs) == 4
    for member in fits:
        (folder,) = [
            folder
            for folder, other in runs.items()
            if (other.method, other.method_option) == ("ume", member.method_option)
        ]
        np.testing.assert_allclose(probabilities(folder), probabilities(fit(member).run), atol=1e-5)
    entries = evaluate(EvaluateConfig(result.folder, bootstrap=0, noise_draws=1, device="cpu")).document["runs"]
    accuracy = {runs[result.folder / "runs" / entry["run"]]: entry["measures"] for entry in entries}
    mean, naive = (
        next(measures for other, measures in accuracy.items() if (other.method, other.method_option) == (method, ()))
        for method in ("ume", "naive")
    )
    assert naive["gain_over_ume"] == pytest.approx(naive["accuracy"] - mean["accuracy"], abs=1e-6)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("1", "weights must have at least two parts"),
        ("0:0", "weights must have a part above 0"),
        ("-1:1", "weights must have finite parts of 0 or more"),
        ("1:1:1", "weights must have one part for each of audio, video"),
        ("audio=1:text=1", "weights's modality must be one of"),
    ],
)
def test_wrong_weights_are_refused(small_cache, weights, message):
    with pytest.raises(ValueError, match=f"--method-option {message}"):
        fit(config(small_cache, **weighted(weights)))


def test_its_history_has_one_row_and_its_run_can_be_read(small_cache):
    result = fit(config(small_cache, method="ume"))
    history = pd.read_csv(result.run / "history.csv")
    assert len(history) == 1
    assert history["chosen"].tolist() == [1]
    assert history["val_accuracy"][0] == pytest.approx(result.val["accuracy"], abs=1e-5)
    assert history.notna().all().all()
    assert read_fitted(result.run).models[0].shape.head == "ume"
    assert sum(result.test["share"].values()) == pytest.approx(1)


def test_the_mean_is_over_the_modalities_that_a_clip_has():
    clips = with_gaps(make_clips(30))
    model = fit_group("ume", [Member(0), Member(3)], clips, clips).model
    batch = batch_of(clips)
    logits = model(batch)
    torch.testing.assert_close(logits.exp().sum(-1), torch.ones(2, 30))
    for run in range(2):
        for clip in range(30):
            softmaxes = []
            for i, m in enumerate(("audio", "video")):
                if batch.present[run, clip, i]:
                    adapter, classifier = model.adapters[m], model.head.classifiers[m]
                    z = adapter.weight[run] @ batch.embeddings[m][run, clip] + adapter.bias[run]
                    softmaxes.append((classifier.weight[run] @ z + classifier.bias[run]).softmax(-1))
            torch.testing.assert_close(logits[run, clip].exp(), torch.stack(softmaxes).mean(0))


def test_a_clip_without_any_modality_has_finite_logits_and_gradients():
    clips = make_clips(6)
    model = fit_group("ume", [Member(0)], clips, clips).model
    batch = Batch(
        {m: torch.zeros(1, 2, e.shape[1]).requires_grad_() for m, e in clips.embeddings.items()},
        torch.zeros(1, 2, 2, dtype=torch.bool),
        torch.zeros(1, 2, dtype=torch.long),
    )
    logits = model(batch)
    gradients = torch.autograd.grad(logits.logsumexp(-1).sum() + logits[..., 0].sum(), list(model.head.parameters()))
    assert torch.isfinite(logits).all()
    assert all(torch.isfinite(g).all() for g in gradients)


def test_its_head_cannot_be_trained(small_cache):
    assert not heads["ume"].listed
    with pytest.raises(ValueError, match=r"--head must be one of .*got 'ume'\. Pass --method ume") as error:
        fit(config(small_cache, head="ume"))
    named = str(error.value).split(", got")[0]
    assert "concat" in named
    assert "ume" not in named


def test_it_takes_no_ratio(small_cache):
    with pytest.raises(ValueError, match="--amr-ratio must be left out for --method ume"):
        fit(config(small_cache, method="ume", amr_ratio="1:1"))
