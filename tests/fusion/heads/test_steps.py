"""Steps from the cache to a head that accepts them: reading, normalizing, adapters, fitting, predicting."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from amr.extract.cache.reader import Cache, EmbeddingInfo
from amr.extract.cache.structure import ClipTable
from amr.extract.cache.writer import Embedded, save
from amr.fusion.config import FitConfig
from amr.fusion.data.clips import Clips
from amr.fusion.data.dataset import read_dataset, read_embedding
from amr.fusion.fit import fit
from amr.fusion.model import FusionModel, ModelShape, predict_logits
from amr.fusion.predict import predict
from amr.fusion.run_axis.axes import pool_steps
from amr.fusion.runs.weights import read_fitted

NUM_CLIPS, STEPS, DIM = 150, 6, 5


def write_cache(path: Path, padding: float = 0.0) -> Path:
    """Write audio with 2 to 6 steps, whose order has the class but whose mean does not, and weak video without steps.

    Args:
        path: Path of the cache.
        padding: Value of the cache after a clip's own steps.
    """
    rng = np.random.default_rng(0)
    target = np.arange(NUM_CLIPS) % 3
    num_steps = rng.integers(2, STEPS + 1, NUM_CLIPS)
    audio = np.full((NUM_CLIPS, STEPS, DIM), padding, dtype=np.float32)
    centers = 3 * np.eye(DIM)[:3]
    for clip, (label, count) in enumerate(zip(target, num_steps, strict=True)):
        rows = 0.3 * rng.normal(size=(count, DIM)) + 2.0
        rows[0] += centers[label]
        rows[1] -= centers[label]
        audio[clip, :count] = rows
    video = (np.eye(4)[target] + 0.8 * rng.normal(size=(NUM_CLIPS, 4))).astype(np.float32)
    present = np.ones(NUM_CLIPS, dtype=bool)
    absent = np.arange(NUM_CLIPS) % 10 == 7
    audio[absent] = 0
    table = pd.DataFrame(
        {
            "id": [f"c{i:03d}" for i in range(NUM_CLIPS)],
            "split": ["train"] * 90 + ["val"] * 30 + ["test"] * 30,
            "label": [f"class {label}" for label in target],
        }
    )
    infos = [EmbeddingInfo("audio", "audio", "made:steps", "", {}, "float32", DIM, STEPS)]
    infos.append(EmbeddingInfo("video", "video", "made:whole", "", {}, "float32", 4))
    rows = [Embedded(audio, ~absent, np.where(absent, 0, num_steps).astype(np.int32)), Embedded(video, present)]
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, ClipTable("made", "", "0" * 64, table), list(zip(infos, rows, strict=True)))
    return path


@pytest.fixture
def cache_path(workspace):
    return write_cache(workspace / "caches" / "steps.h5")


def config(cache: Path, **changes: object) -> FitConfig:
    defaults = {"cache": str(cache), "head": "attention", "hidden": 16, "epochs": 20, "lr": 0.01, "device": "cpu"}
    return FitConfig(**defaults | changes)


def test_steps_are_padded_with_nan_or_averaged(cache_path):
    with Cache.open(cache_path) as cache:
        padded, pooled = read_dataset(cache, keep_steps=True), read_dataset(cache)
        num_steps = torch.from_numpy(cache.num_steps("audio"))
        some, present = read_embedding(cache, "audio", np.array([3, 17]), keep_steps=True)
    audio = padded.embeddings["audio"]
    assert audio.shape == (NUM_CLIPS, STEPS, DIM)
    assert torch.equal(audio.isnan().all(-1), torch.arange(STEPS) >= num_steps[:, None])
    assert present.tolist() == padded.present[[3, 17], padded.modalities.index("audio")].tolist()
    assert torch.equal(some.nan_to_num(), audio[[3, 17]].nan_to_num())
    torch.testing.assert_close(audio.nanmean(1).nan_to_num(), pooled.embeddings["audio"])
    torch.testing.assert_close(pool_steps(audio, num_steps), pooled.embeddings["audio"])
    assert padded.embed_dims == pooled.embed_dims == {"audio": DIM, "video": 4}
    assert torch.equal(padded.embeddings["video"], pooled.embeddings["video"])


def test_standardization_is_over_valid_steps(cache_path):
    with Cache.open(cache_path) as cache:
        dataset = read_dataset(cache, keep_steps=True)
    train = np.arange(90)
    normal = dataset.normalization("standard", train).apply(dataset.embeddings, dataset.present)["audio"]
    valid = ~dataset.embeddings["audio"].isnan().any(-1)
    rows = normal[:90][valid[:90]]
    torch.testing.assert_close(rows.mean(0), torch.zeros(DIM), atol=1e-5, rtol=0)
    torch.testing.assert_close(rows.std(0, correction=0), torch.ones(DIM), atol=1e-5, rtol=0)
    assert (normal[~valid] == 0).all()
    raw = dataset.normalization("none", train).apply(dataset.embeddings, dataset.present)["audio"]
    assert torch.equal(raw, dataset.embeddings["audio"].nan_to_num())


@pytest.mark.parametrize("adapter", ["linear", "mlp"])
def test_adapters_act_step_by_step_and_leave_padding_zero(cache_path, adapter):
    with Cache.open(cache_path) as cache:
        dataset = read_dataset(cache, keep_steps=True)
    embeddings = dataset.normalization("standard", np.arange(90)).apply(dataset.embeddings, dataset.present)
    clips = Clips(embeddings, dataset.present, dataset.target)
    shape = ModelShape.of(dataset.embed_dims, 3, head="attention", hidden=8, adapter=adapter, adapter_dim=7)
    model = FusionModel(shape, [0, 1])
    z = model.encode(clips.slice(0, 20, 2))["audio"]
    assert z.shape == (2, 20, STEPS, 7)
    valid = (~dataset.embeddings["audio"][:20].isnan().any(-1)).expand(2, -1, -1)
    assert (z[~valid] == 0).all()
    single = model.adapters["audio"](embeddings["audio"][:20, 1].expand(2, -1, -1))
    torch.testing.assert_close(z[:, :, 1], single * valid[:, :, 1, None])
    assert predict_logits(model, clips).isfinite().all()


def test_chunks_count_steps(cache_path, monkeypatch):
    with Cache.open(cache_path) as cache:
        dataset = read_dataset(cache, keep_steps=True)
    embeddings = dataset.normalization("standard", np.arange(90)).apply(dataset.embeddings, dataset.present)
    clips = Clips(embeddings, dataset.present, dataset.target)
    monkeypatch.setattr("amr.fusion.data.clips.CHUNK_NUMBERS", 2 * (STEPS * DIM + 4) * 11)
    assert clips.chunks(2).step == 11


@pytest.mark.parametrize("head", ["attention", "cross-attention"])
def test_attention_uses_the_order_that_an_average_loses(cache_path, head):
    attention = fit(config(cache_path, modalities="audio", head=head))
    averaged = fit(config(cache_path, modalities="audio", head="concat"))
    assert attention.test["accuracy"] > 0.85
    assert averaged.test["accuracy"] < 0.6


@pytest.mark.parametrize("ratio", [None, "1:1"])
def test_a_fit_does_not_depend_on_the_padding_in_the_cache(cache_path, ratio):
    garbage = write_cache(cache_path.parent / "garbage.h5", padding=1e3)
    results = [fit(config(path, amr_ratio=ratio, epochs=12)) for path in (cache_path, garbage)]
    assert results[0].test == results[1].test
    left, right = (read_fitted(result.run).models[0].run_state(0) for result in results)
    assert all(torch.equal(left[name], right[name]) for name in left)
    if ratio is not None:
        assert results[0].val["share"]["audio"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("head", ["attention", "cross-attention", "gated"])
def test_predicting_cached_clips_gives_the_predictions_of_the_run(cache_path, head):
    result = fit(config(cache_path, head=head, adapter="linear", epochs=5))
    table = pd.read_csv(result.run / "predictions.csv").set_index("id")
    ids = ["c149", "c127", "c120", "c149"]  # c127 has no audio
    predictions = predict(result.run, ids, "cpu")
    for id_, prediction in zip(ids, predictions, strict=True):
        assert prediction.pred == table.loc[id_, "pred"]
        assert prediction.probability == pytest.approx(table.loc[id_, "probability"], abs=1e-4)
    assert predictions[1].note == "no audio"
