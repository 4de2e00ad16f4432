"""Public functions take what Python code has at hand: texts, paths, names, NumPy numbers, lists and mappings."""

from pathlib import Path

import numpy as np
import pytest

import amr
from amr.data_manifests.synthetic import SyntheticConfig, render


@pytest.fixture(autouse=True)
def in_the_workspace(workspace, monkeypatch):
    monkeypatch.chdir(workspace)


def test_a_fit_and_what_follows_take_names_texts_and_paths(small_cache, workspace):
    settings = {"epochs": np.int64(2), "lr": np.float32(0.01), "modalities": ["audio", "video"], "device": "cpu"}
    ratio = {"audio": 3, "video": 1}
    result = amr.fit(amr.FitConfig(cache=small_cache, out=Path("runs/first"), amr_ratio=ratio, **settings))
    again = amr.fit(amr.FitConfig(cache=str(small_cache), out="second", amr_ratio=(3, 1), **settings))
    assert again.run.resolve() == (workspace / "runs" / "second").resolve()
    assert result.test == again.test
    clip = "a10_c100"
    for run in ("first", "runs/first", Path("runs/first")):
        for clips in (clip, [clip], (clip,), np.array([clip])):
            (prediction,) = amr.predict(run, clips)
            assert prediction.clip == clip
            assert prediction.pred is not None
        assert amr.load_head(run).modalities == ("audio", "video")
        evaluated = amr.evaluate(amr.EvaluateConfig(run=run, bootstrap=np.int64(0), noise_draws=1))
        assert evaluated.document["num_clips"] == 20
        assert amr.explain(amr.ExplainConfig(run, clip, out="explained.png")).picture == "explained.png"
        for dirs in (run, [run]):
            assert amr.report(amr.ReportConfig(dirs=dirs, out=Path("page.html"))).out == Path("page.html")


def test_a_sweep_takes_lists_and_arrays(small_cache):
    base = amr.FitConfig(cache=small_cache, epochs=1, device="cpu")
    swept = amr.sweep(amr.SweepConfig(base, amr_ratio=[None, (1, 1)], lr=np.array([0.1, 0.01]), seed=range(2)))
    assert len(swept.table) == 2 * 2 * 2 * 2


def test_caches_are_opened_by_name_text_and_path(small_cache):
    for cache in ("small", str(small_cache), small_cache):
        with amr.open_cache(cache) as opened:
            assert opened.names == ["audio", "video"]


def test_imports_take_mappings_and_paths(workspace):
    np.save(workspace / "a.npy", np.ones((4, 3), np.float32))
    (workspace / "labels.txt").write_text("x\ny\nx\ny\n")
    result = amr.import_embeddings(
        amr.ImportConfig(
            embeddings={"a": workspace / "a.npy"},
            labels=workspace / "labels.txt",
            splits={"train": 3, "test": 1},
            out=workspace / "caches" / "mine.h5",
        )
    )
    with amr.open_cache(result.cache) as opened:
        assert opened.table()["split"].tolist() == ["train"] * 3 + ["test"]


def test_extractions_take_mappings_and_paths(workspace):
    manifest = render(SyntheticConfig(num_clips=20, num_classes=2), workspace / "media").root / "manifest.csv"
    extracted = amr.extract_embeddings(
        amr.ExtractConfig(manifest=manifest, encoder={"audio": "logmel"}, out=Path("caches/x.h5"), workers=0)
    )
    assert set(extracted.embedded) == {"audio"}
