from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from amr.extract.cache.reader import Cache
from amr.fusion.data.dataset import read_dataset
from amr.fusion.data.targets import sort_classes
from amr.fusion.run_axis.axes import pool_steps


def test_reading_gives_embeddings_target_and_classes(small_cache):
    with Cache.open(small_cache) as cache:
        dataset = read_dataset(cache)
        parity = read_dataset(cache, modalities="video", label="parity")
    assert dataset.modalities == ("audio", "video")
    assert dataset.embed_dims == {"audio": 10, "video": 10}
    assert dataset.classes == ("0", "1", "2")
    assert dataset.target.tolist() == [i % 3 for i in range(120)]
    assert parity.modalities == ("video",)
    assert parity.classes == ("even", "odd")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": "audio,vidoe"}, "Did you mean video"),
        ({"modalities": "audio,audio"}, "each embedding once"),
        ({"label": "partiy"}, "Did you mean parity"),
        ({"label": "split"}, "--label must be one of"),
    ],
)
def test_unknown_names_are_refused(small_cache, options, message):
    with Cache.open(small_cache) as cache, pytest.raises(ValueError, match=message):
        read_dataset(cache, **options)


def test_standardization_uses_train_clips_that_have_the_modality(small_cache):
    with Cache.open(small_cache) as cache:
        dataset = read_dataset(cache)
    dataset.present[:20, 1] = False
    dataset.embeddings["audio"][:, 0] = 7.0  # a constant dimension
    train = np.arange(60)
    normal = dataset.normalization("standard", train)
    result = normal.apply(dataset.embeddings, dataset.present)
    torch.testing.assert_close(result["video"][20:60].mean(0), torch.zeros(10), atol=1e-5, rtol=0)
    torch.testing.assert_close(result["video"][20:60].std(0, correction=0), torch.ones(10))
    assert (result["video"][:20] == 0).all()
    assert (result["audio"][:, 0] == 0).all()
    raw = dataset.normalization("none", train).apply(dataset.embeddings, dataset.present)
    assert torch.equal(raw["audio"], dataset.embeddings["audio"])


def test_a_modality_that_no_train_clip_has_stays_zero(small_cache):
    with Cache.open(small_cache) as cache:
        dataset = read_dataset(cache)
    dataset.present[:, 0] = False
    result = dataset.normalization("standard", np.arange(60)).apply(dataset.embeddings, dataset.present)
    assert (result["audio"] == 0).all()


@pytest.mark.parametrize("num_steps", [None, 3])
def test_chunks_change_nothing(small_cache, monkeypatch, num_steps):
    with Cache.open(small_cache) as cache:
        dataset = read_dataset(cache)
    dataset.present[5:9, 1] = False
    if num_steps is not None:
        steps = {m: torch.randn(120, num_steps, 10) * 3 + 1 for m in dataset.modalities}
        steps["audio"][::2, 1:] = torch.nan
        dataset = replace(dataset, embeddings=steps)
    train, rows = np.arange(0, 120, 2), torch.tensor([7, 3, 100, 6])
    whole = dataset.normalization("standard", train)
    expected = whole.apply(dataset.embeddings, dataset.present, rows)
    for i, (m, e) in enumerate(dataset.embeddings.items()):
        x = e[train][dataset.present[train, i]].flatten(0, -2)
        x = x[~x.isnan().any(-1)].double()
        torch.testing.assert_close(whole.mean[m].double(), x.mean(0), check_dtype=False, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(whole.std[m].double(), x.std(0, correction=0), atol=1e-6, rtol=1e-6)
        valid = dataset.present[rows, i].view(-1, *[1] * (e.ndim - 1)) & ~e[rows].isnan()
        torch.testing.assert_close(expected[m], torch.where(valid, (e[rows] - whole.mean[m]) / whole.std[m], 0))
    monkeypatch.setattr("amr.fusion.data.clips.CACHED_NUMBERS", 25)
    chunked = dataset.normalization("standard", train)
    for m in dataset.modalities:
        torch.testing.assert_close(chunked.mean[m], whole.mean[m])
        torch.testing.assert_close(chunked.std[m], whole.std[m])
        assert torch.equal(whole.apply(dataset.embeddings, dataset.present, rows)[m], expected[m])


def test_only_valid_steps_are_averaged():
    values = torch.arange(12.0).reshape(2, 3, 2)
    expected = torch.stack([values[0, :2].mean(0), torch.zeros(2)])
    torch.testing.assert_close(pool_steps(values, torch.tensor([2, 0])), expected)
    torch.testing.assert_close(pool_steps(values, None), values.mean(1))


def test_classes_sort_as_numbers_if_all_are_numbers():
    assert sort_classes(["10", "2", "1"]) == ["1", "2", "10"]
    assert sort_classes(["b", "10", "2"]) == ["10", "2", "b"]


def test_clips_that_are_not_finite_are_absent_and_counted(small_cache):
    with Cache.open(small_cache) as cache:
        before = read_dataset(cache)
    with h5py.File(small_cache, "r+") as file:
        file["embeddings/audio"][[3, 5], 0] = [np.nan, np.inf]
    with Cache.open(small_cache) as cache:
        after = read_dataset(cache)
    assert after.num_not_finite == {"audio": 2, "video": 0}
    changed = (before.present != after.present).nonzero().tolist()
    assert changed == [[3, 0], [5, 0]]
    assert after.embeddings["audio"].isfinite().all()
    (note,) = [note for note in after.notes() if "finite" in note]
    assert note.startswith("2 clips have values of audio that are not finite and are treated as without audio")
    assert not [note for note in before.notes() if "finite" in note]
