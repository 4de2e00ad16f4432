import numpy as np
import pytest
import torch

from amr.extract.config import ImportConfig
from amr.extract.import_embeddings import import_embeddings
from amr.fusion.config import FitConfig
from amr.fusion.data.clips import Clips
from amr.fusion.data.folds import read_training_data
from amr.fusion.data.normalization import Normalization
from amr.fusion.fit import fit

from ..conftest import make_clips


def test_each_fold_is_normalized_by_its_own_train_split(small_cache):
    data = read_training_data(FitConfig(cache=str(small_cache), folds=3, device="cpu"), keep_steps=False)
    for fold in data.folds:
        torch.testing.assert_close(fold.train.embeddings["audio"].mean(0), torch.zeros(10), atol=1e-5, rtol=0)
        assert len(fold.train) + len(fold.val) + len(fold.test) == 120


def test_a_full_device_is_reported_and_changes_no_number(small_cache, monkeypatch):
    config = FitConfig(cache=str(small_cache), epochs=3, device="cpu", amr_ratio="1:1")
    roomy = fit(config)
    monkeypatch.setattr("amr.fusion.data.folds.free_bytes", lambda device: 1000)
    streamed = fit(config)
    assert any("stream from host memory" in note for note in streamed.record.notes)
    assert (streamed.val, streamed.test) == (roomy.val, roomy.test)


def test_batches_of_embeddings_in_host_memory_are_copied_to_the_device():
    """meta replaces a second device: its tensors have a shape but no values."""
    clips = make_clips(10)
    streamed = Clips(clips.embeddings, clips.present.to("meta"), clips.target.to("meta"))
    batch = streamed.slice(0, 4, 3)
    assert batch.embeddings["audio"].device.type == "meta"
    assert batch.embeddings["audio"].shape == (1, 4, 8)
    assert batch.target.shape == (3, 4)


def test_a_modality_that_no_train_clip_has_is_absent_everywhere(small_cache):
    from amr.extract.cache.reader import Cache
    from amr.fusion.data.dataset import read_dataset
    from amr.fusion.data.folds import normalized
    from amr.fusion.data.splits import split_rows

    with Cache.open(small_cache) as cache:
        dataset = read_dataset(cache)
    dataset.present[:100, 1] = False  # train and val; test has it
    (splits,) = split_rows(dataset.clips, dataset.target.numpy(), dataset.usable)
    normalization = dataset.normalization("standard", splits.train)
    embeddings = dict(dataset.embeddings)
    rows = [(splits.train, splits.test)]
    (((_, test),), notes) = normalized(embeddings, dataset, rows, [normalization], torch.device("cpu"), on_disk=False)
    assert not test.present[:, 1].any()
    assert (test.embeddings["video"] == 0).all()
    assert not embeddings
    assert notes == []


def test_a_cache_without_a_usable_clip_is_refused_by_its_cause(tmp_path):
    np.save(tmp_path / "a.npy", np.full((6, 2), np.nan, np.float32))
    (tmp_path / "labels.txt").write_text("x\ny\n" * 3)
    config = ImportConfig(
        embeddings=(f"audio={tmp_path}/a.npy",), labels=f"{tmp_path}/labels.txt", out=str(tmp_path / "c.h5")
    )
    import_embeddings(config)
    with pytest.raises(ValueError, match=r"must have a clip with a label and audio, got none of 6\. See amr inspect"):
        read_training_data(FitConfig(cache=str(tmp_path / "c.h5")), keep_steps=False)


def test_a_float16_cache_stays_float16_on_the_device_and_gives_the_same_results(small_cache, workspace):
    caches = {}
    for dtype in ("float16", "float32"):
        caches[dtype] = workspace / "caches" / f"{dtype}.h5"
        import_embeddings(
            ImportConfig(
                embeddings=tuple(f"{m}={workspace / m}.npy" for m in ("audio", "video")),
                labels=str(workspace / "labels.txt"),
                ids=str(workspace / "ids.txt"),
                splits="train=80,val=20,test=20",
                dtype=dtype,
                out=str(caches[dtype]),
            )
        )
    configs = {d: FitConfig(cache=str(c), epochs=5, device="cpu", amr_ratio="1:1") for d, c in caches.items()}
    data = read_training_data(configs["float16"], keep_steps=False)
    clips = data.folds[0].train
    assert {e.dtype for e in clips.embeddings.values()} == {torch.float16}
    for batch in (clips.gather(torch.arange(6).view(2, 3), 2), clips.slice(0, 4, 2)):
        assert {e.dtype for e in batch.embeddings.values()} == {torch.float32}
    half, single = (fit(config) for config in configs.values())
    for split in ("val", "test"):
        ours, theirs = (getattr(result, split) for result in (half, single))
        assert abs(ours["accuracy"] - theirs["accuracy"]) <= 0.05  # one clip of twenty
        assert abs(ours["share"]["audio"] - theirs["share"]["audio"]) < 2e-3


def test_float16_values_are_never_infinite():
    normalization = Normalization.identity({"audio": 1}, {"audio": True})
    embeddings = {"audio": torch.tensor([[1e9], [-1e9], [0.5], [1.0]])}
    present = torch.tensor([[True], [True], [True], [False]])
    values = normalization.apply(embeddings, present, torch.tensor([2, 1, 0, 3]), {"audio": torch.float16})["audio"]
    assert values.flatten().tolist() == [0.5, -65504, 65504, 0]
