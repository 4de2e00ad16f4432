import pandas as pd
import pytest
import torch

from amr.fusion.config import FitConfig
from amr.fusion.data.clips import Batch
from amr.fusion.fit import fit
from amr.fusion.heads import heads
from amr.fusion.predict import predict
from amr.fusion.runs.weights import read_fitted
from amr.fusion.train.recipe import Member

from ..conftest import make_clips
from .conftest import batch_of, fit_group, with_gaps


def config(cache, **changes):
    return FitConfig(**{"cache": str(cache), "epochs": 5, "lr": 0.01, "device": "cpu", **changes})


@pytest.mark.parametrize("adapter", ["none", "linear"])
@pytest.mark.parametrize("seed", [0, 4])
def test_it_is_the_mean_of_the_softmaxes_of_unimodal_runs(small_cache, adapter, seed):
    settings = {"adapter": adapter, "seed": seed}
    ensemble = fit(config(small_cache, method="ume", **settings))
    ids = [f"a{i // 10:02d}_c{i:03d}" for i in range(80, 120)]
    unimodal = [
        predict(fit(config(small_cache, method="unimodal", modalities=m, **settings)).run, ids, "cpu")
        for m in ("audio", "video")
    ]
    for ours, audio, video in zip(predict(ensemble.run, ids, "cpu"), *unimodal, strict=True):
        for name, probability in ours.probabilities.items():
            assert probability == pytest.approx((audio.probabilities[name] + video.probabilities[name]) / 2, abs=1e-5)


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
