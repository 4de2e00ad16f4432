from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import torch

from amr.common.progress import Progress
from amr.fusion.end_to_end import data as module
from amr.fusion.end_to_end.data import read_media_data, store_on

from ...gpu.conftest import gpu  # noqa: F401  (a fixture)
from .conftest import ENCODERS


def test_random_weights_depend_on_the_seed(request_for):
    zero, one = (read_media_data(request_for("x", seed=seed), Progress()) for seed in (0, 1))
    for m in ENCODERS:
        assert zero.encoders[m].weights_sha256 != one.encoders[m].weights_sha256
        assert zero.encoders[m].preprocessing == one.encoders[m].preprocessing
    assert zero.store.tensors["audio"].shape == one.store.tensors["audio"].shape
    with_seed = request_for("x", encoder=(f"audio={ENCODERS['audio']},seed=1",), seed=5)
    assert (
        read_media_data(with_seed, Progress()).encoders["audio"].weights_sha256 == one.encoders["audio"].weights_sha256
    )


def test_splits_and_their_hash(request_for, media, tmp_path):
    plain = read_media_data(request_for("x"), Progress())
    assert [len(rows) for rows in (plain.rows.train, plain.rows.val, plain.rows.test)] == [18, 6, 12]
    clips = plain.select(plain.rows.test)
    assert {m: rows.tolist() for m, rows in clips.rows.items()} == dict.fromkeys(ENCODERS, plain.rows.test.tolist())
    assert clips.target.tolist() == plain.target[plain.rows.test].tolist()
    assert plain.clips_sha256() == read_media_data(request_for("x", seed=4), Progress()).clips_sha256()
    table = pd.read_csv(media / "data/synthetic/manifest.csv", dtype=str, keep_default_na=False)
    sums = {plain.clips_sha256()}
    for i, (column, value) in enumerate((("label", ""), ("split", "test"))):
        table.loc[plain.rows.train[i], column] = value
        table.to_csv(tmp_path / f"{i}.csv", index=False)
        changes = {"dataset": None, "manifest": str(tmp_path / f"{i}.csv"), "root": str(media / "data/synthetic")}
        sums.add(read_media_data(request_for("x", **changes), Progress()).clips_sha256())
    assert len(sums) == 3


@pytest.mark.parametrize(("free_bytes", "place"), [(2.0, "cuda"), (1.99, "cpu")])
def test_a_store_goes_to_the_device_if_it_needs_half_of_the_free_memory(
    request_for,
    monkeypatch,
    free_bytes,
    place,
    gpu,  # noqa: F811
):
    data = read_media_data(request_for("x"), Progress())
    assert data.store.num_bytes == sum(2 * x.numel() for x in data.store.tensors.values())
    monkeypatch.setattr(module, "free_bytes", lambda device: free_bytes * data.store.num_bytes)
    device = torch.device("cuda:0")
    placed = replace(data, store=store_on(device, data.store), device=device)
    assert {x.device.type for x in placed.store.tensors.values()} == {place}
    clips = placed.select(data.rows.val)
    assert {rows.device.type for rows in clips.rows.values()} == {place}
    (batch, of_tensors) = clips.slice(0, 4, 1), {m: x.shape[1:] for m, x in data.store.tensors.items()}
    assert {m: x.shape for m, x in batch.embeddings.items()} == {m: (1, 4, *s) for m, s in of_tensors.items()}
    assert {x.device.type for x in batch.embeddings.values()} == {"cuda"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": ("audio=logmel",)}, "--encoder audio must have weights that can be trained, got 'logmel'"),
        ({"label": "emotion"}, "--label must be one of"),
        ({"split_policy": "actor"}, "--split-policy must be one of default"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_decoded(request_for, monkeypatch, changes, message):
    def decode(*args, **kwargs):
        raise AssertionError("decoded")

    monkeypatch.setattr(module, "open_store", decode)
    with pytest.raises(ValueError, match=message):
        read_media_data(request_for("x", **changes), Progress())


def test_a_time_crop_of_pictures_of_one_width_is_refused_before_anything_is_decoded(request_for, monkeypatch):
    monkeypatch.setattr(module, "open_store", None)
    vit = "timm:vit_tiny_patch16_224,size=32,channels=1,weights=random"
    config = request_for("x", encoder=(f"audio={vit}",), time_crop=0.5)
    with pytest.raises(ValueError, match=r"--time-crop must be 1 for --encoder audio=timm:vit_tiny.*, got 0.5. Leave"):
        read_media_data(config, Progress())
    for other in (replace(config, time_crop=None), request_for("x", time_crop=0.5)):
        with pytest.raises(TypeError, match="'NoneType' object is not callable"):  # that store
            read_media_data(other, Progress())
