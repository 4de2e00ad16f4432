"""Commands with --device cuda give what they give with --device cpu.

Commands that can decode are imported where they are tested: a machine with a GPU may lack what decodes.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from amr.extract.config import ImportConfig
from amr.extract.import_embeddings import import_embeddings
from amr.fusion.classifier import FusionClassifier
from amr.fusion.config import FitConfig
from amr.fusion.data.folds import read_training_data
from amr.fusion.evaluate.config import EvaluateConfig
from amr.fusion.evaluate.evaluate import evaluate
from amr.fusion.explain.config import ExplainConfig
from amr.fusion.fit import fit
from amr.fusion.runs.load_head import load_head
from amr.fusion.swept import SweepConfig
from amr.fusion.train import graphs

pytestmark = pytest.mark.gpu
NUM_CLIPS, DIM = 90, 6


class Repeats:
    """Repeats the work where a graph would be replayed."""

    def warm_up(self, work):
        work()

    def record(self, work):
        return work


@pytest.fixture
def cache(workspace: Path, gpu, monkeypatch) -> Path:
    """A cache of two modalities, of which some clips lack one; on a GPU that is not there, graphs are repetitions."""
    if gpu.fake is not None:
        monkeypatch.setattr(graphs, "CudaGraphs", Repeats)
    rng, target = np.random.default_rng(0), np.arange(NUM_CLIPS) % 3
    for number, name in enumerate(("audio", "video")):
        rows = np.eye(3, DIM)[target] * 2 + rng.normal(size=(NUM_CLIPS, DIM))
        rows[number::11] = np.nan
        np.save(workspace / f"{name}.npy", rows.astype(np.float32))
    np.savetxt(workspace / "labels.txt", target, fmt="%d")
    files = tuple(f"{name}={workspace / name}.npy" for name in ("audio", "video"))
    out = workspace / "caches" / "c.h5"
    import_embeddings(
        ImportConfig(files, labels=str(workspace / "labels.txt"), splits="train=50,val=20,test=20", out=str(out))
    )
    return out


def config(cache: Path, device: str, **changes) -> FitConfig:
    settings = {"epochs": 3, "lr": 0.01, "batch_size": 16, "amr_ratio": "1:1"} | changes
    return FitConfig(cache=str(cache), device=device, **settings)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"folds": 3, "head": "sum", "hidden": 5},
        {"method": "umt", "adapter": "linear"},
        {"method": "gradient-blending", "method_option": ("super_epoch=1",), "amr_ratio": None},
        {"attribution": "permutation", "head": "gated", "normalize": "none"},
        {"attribution": "shapley", "attribution_baseline": "mean", "head": "attention"},
        {"embedding_noise": "1", "optimizer": "sgd"},
    ],
    ids=str,
)
def test_fits(cache, gpu, changes):
    on_cpu, on_gpu = (fit(config(cache, device, out=device, **changes)) for device in ("cpu", "cuda"))
    for split in ("val", "test"):
        gpu.assert_alike(getattr(on_gpu, split), getattr(on_cpu, split))
    files = [each.relative_to(on_cpu.run) for each in on_cpu.run.rglob("weights.safetensors")]
    for file in files:
        gpu.assert_near(load_file(on_gpu.run / file), load_file(on_cpu.run / file))


@pytest.mark.parametrize("changes", [{"folds": 3}, {"head": "gated", "attribution": "shapley"}], ids=str)
def test_predict_and_explain(cache, gpu, changes):
    pytest.importorskip("av")
    from amr.fusion.explain.explain import explain
    from amr.fusion.predict import predict

    run, clips = fit(config(cache, "cuda", **changes)).run, ["0", "1", "85"]
    gpu.assert_alike(*([asdict(each) for each in predict(run, clips, device)] for device in ("cuda", "cpu")))
    explained = (explain(ExplainConfig(run, "85", device=device)) for device in ("cuda", "cpu"))
    gpu.assert_alike(*(each.to_json() for each in explained))


def test_a_head_moves_to_the_gpu(cache, gpu):
    run = fit(config(cache, "cuda")).run
    head = load_head(run)
    z = {name: torch.from_numpy(np.load(cache.parents[1] / f"{name}.npy")).nan_to_num() for name in ("audio", "video")}
    here = head(z)
    there = head.to("cuda")({name: value.to("cuda") for name, value in z.items()})
    assert there.is_cuda
    gpu.assert_near({"logits": there}, {"logits": here})


def test_sweep_and_evaluate(cache, gpu):
    pytest.importorskip("av")
    from amr.fusion.sweep.sweep import sweep

    results = {}
    for device in ("cpu", "cuda"):
        base = config(cache, device, out=device)
        swept = SweepConfig(
            base, method=("naive", "unimodal", "ume", "modality-dropout"), amr_ratio=(None, "1:3"), seed=(0, 1)
        )
        results[device] = sweep(swept)
        assert results[device].diverged == ()
    gpu.assert_alike(results["cuda"].to_json(), results["cpu"].to_json())
    options = EvaluateConfig(results["cpu"].folder, bootstrap=20, noise_draws=2)
    runs = {device: evaluate(replace(options, device=device)).document["runs"] for device in ("cuda", "cpu")}
    gpu.assert_alike(runs["cuda"], runs["cpu"])


def test_frontier(cache, gpu, monkeypatch):
    pytest.importorskip("av")
    from amr.fusion.frontier import settings
    from amr.fusion.frontier.config import FrontierConfig
    from amr.fusion.frontier.frontier import frontier

    for name in ("WEIGHTS", "NOISES", "DECAYS"):
        monkeypatch.setattr(settings, name, getattr(settings, name)[:1])
    found = {}
    for device in ("cpu", "cuda"):
        found[device] = frontier(
            FrontierConfig(cache=str(cache), device=device, epochs=1, folds=0, seeds=1, out=device)
        )
    assert found["cuda"].to_json().keys() == found["cpu"].to_json().keys()
    if gpu.fake is not None:  # a real one may find another setting the best
        gpu.assert_alike(found["cuda"].to_json(), found["cpu"].to_json())


def test_arrays_in_memory(cache, gpu):
    z = {name: np.nan_to_num(np.load(cache.parents[1] / f"{name}.npy")) for name in ("audio", "video")}
    target = np.arange(NUM_CLIPS) % 3
    probabilities = [
        FusionClassifier(device=device, epochs=2, amr_ratio="1:1").fit(z, target).predict_proba(z)
        for device in ("cpu", "cuda")
    ]
    np.testing.assert_allclose(probabilities[1], probabilities[0], atol=1e-3)


def test_embeddings_that_do_not_fit_stay_in_host_memory(cache, gpu, monkeypatch):
    expected = fit(config(cache, "cuda", out="fits"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (2**10, 2**10))
    data = read_training_data(config(cache, "cuda"), keep_steps=False)
    assert any("stream from host memory" in note for note in data.notes)
    clips = data.folds[0].train
    assert clips.target.is_cuda
    assert not any(each.is_cuda for each in clips.embeddings.values())
    streamed = fit(config(cache, "cuda", out="streams"))
    gpu.assert_near(*(load_file(each.run / "weights.safetensors") for each in (streamed, expected)))
