import json

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from amr.extract.cache.arrays import write_attributes, write_text
from amr.extract.cache.reader import Cache
from amr.extract.cache.seal import seal
from amr.extract.config import ImportConfig
from amr.extract.import_embeddings import import_embeddings
from amr.fusion.data.corpus import _rows, read_corpus
from amr.fusion.data.dataset import Dataset
from amr.fusion.data.normalization import Normalization, train_statistics
from amr.fusion.data.on_disk import DiskClips

CLASSES = ("0", "1", "2")


def make_cache(workspace, name="other", labels=("0", "1", "2", "4", ""), splits=None, dim=4, embeddings=("audio",)):
    rng = np.random.default_rng(0)
    for m in embeddings:
        np.save(workspace / f"{name}_{m}.npy", rng.normal(size=(20, dim)).astype(np.float32))
    columns = {"label": [labels[i % len(labels)] for i in range(20)]}
    pd.DataFrame(columns).to_csv(workspace / f"{name}.csv", index=False)
    out = workspace / "caches" / f"{name}.h5"
    paths = tuple(f"{m}={workspace / f'{name}_{m}.npy'}" for m in embeddings)
    import_embeddings(ImportConfig(embeddings=paths, labels=str(workspace / f"{name}.csv"), out=str(out)))
    if splits:
        with h5py.File(out, "r+") as file:
            del file["clips/split"]
            write_text(file["clips"], "split", [splits[i % len(splits)] for i in range(20)])
            seal(file)
    return out


def infos(path):
    with Cache.open(path) as cache:
        return {m: vars(cache.info(m)) for m in cache.names}


def normalization(mean, std, seen=True):
    return Normalization({"audio": torch.full((4,), mean)}, {"audio": torch.full((4,), std)}, {"audio": seen})


def read(path, embeddings, normalizations=None, **changes):
    settings = {"label": "label", "standardized": True, "keep_steps": False, "device": "cpu"} | changes
    return read_corpus(path, embeddings, CLASSES, normalizations or [normalization(1.0, 2.0)], **settings)


def test_clips_have_the_classes_and_the_normalization_of_each_fold(workspace):
    path = make_cache(workspace)
    data = read(path, infos(path), [normalization(1.0, 2.0), normalization(-1.0, 0.5)])
    values = np.load(workspace / "other_audio.npy")
    rows = [i for i in range(20) if i % 5 < 3]
    for fold, (mean, std) in zip(data.folds, ((1.0, 2.0), (-1.0, 0.5)), strict=True):
        np.testing.assert_allclose(fold.test.embeddings["audio"].numpy(), (values[rows] - mean) / std, rtol=1e-5)
        assert fold.test.target.tolist() == [i % 5 for i in rows]
        assert fold.rows.test.tolist() == rows
        assert len(fold.val) == 0
    assert data.dataset.classes == CLASSES
    assert data.notes[1:] == (
        "measured on all 12 clips of other.h5",
        "4 clips of other.h5 are left out: no run knows their classes (4)",
        "4 clips of other.h5 have no label and are left out",
    )
    assert data.notes[0] == "audio is that of the fit, clip by clip: this is no other corpus"
    fitted = infos(make_cache(workspace, "fitted", dim=4, labels=("0", "1")))
    assert read(path, fitted).notes[0].startswith("audio is imported: ")


def test_the_train_mean_is_that_of_the_fit_if_it_standardized(workspace):
    path = make_cache(workspace)
    ours = [normalization(1.0, 2.0), normalization(0.0, 1.0, seen=False)]
    seen, unseen = (train_statistics(fold.train) for fold in read(path, infos(path), ours).folds)
    for values, expected in zip((*seen, *unseen), (0, 1, 0, 0), strict=True):
        assert values["audio"].tolist() == [expected] * 4
    data = read(path, infos(path), [normalization(0.0, 1.0)], standardized=False)
    assert data.folds[0].train is data.folds[0].test
    assert any(note.startswith("the fit did not standardize") for note in data.notes)


def test_a_test_split_is_preferred_to_all_clips(workspace):
    path = make_cache(workspace, labels=("0", "1"), splits=("train", "test", "val", "test"))
    data = read(path, infos(path))
    assert data.folds[0].rows.test.tolist() == list(range(1, 20, 2))
    assert "measured on the 10 test clips of other.h5" in data.notes


def test_a_modality_that_no_train_clip_had_is_absent(workspace):
    path = make_cache(workspace)
    data = read(path, infos(path), [normalization(0.0, 1.0, seen=False)])
    assert not data.folds[0].test.present.any()
    assert (data.folds[0].test.embeddings["audio"] == 0).all()


@pytest.mark.parametrize(
    ("made", "changes", "message"),
    [
        ({"labels": ("x", "y")}, {}, r"must have clips of the runs' classes \(0, 1, 2\) .*got x, y in"),
        ({}, {"label": "mood"}, "must have the column 'mood', which the runs predict, got id"),
        ({"dim": 5}, {}, "audio of --cache must be as in the fit, 4 dimensions, got 5 dimensions"),
        ({"embeddings": ("video",)}, {}, "must hold the embedding audio that the runs were fitted on, got video"),
    ],
)
def test_caches_that_do_not_fit_are_refused(workspace, made, changes, message):
    fitted = infos(make_cache(workspace, "fitted"))
    with pytest.raises(ValueError, match=message):
        read(make_cache(workspace, **made), fitted, **changes)


def set_encoder(path, encoder, **preprocessing):
    with h5py.File(path, "r+") as file:
        write_attributes(file["embeddings/audio"], encoder=encoder, preprocessing=json.dumps(preprocessing))
        seal(file)


def test_another_encoder_is_refused_and_other_clips_of_the_same_are_not(workspace):
    fitted_path, path = make_cache(workspace, "fitted"), make_cache(workspace)
    set_encoder(fitted_path, "mel", rate=16000)
    set_encoder(path, "mel", rate=8000)
    with pytest.raises(
        ValueError, match=r"audio of --cache must have the preprocessing.rate of the fit, 16000, got 8000"
    ):
        read(path, infos(fitted_path))
    set_encoder(path, "mel", rate=16000)
    assert read(path, infos(fitted_path)).notes[0].startswith("measured on all")


def test_an_unfinished_cache_is_refused(workspace):
    path = make_cache(workspace)
    fitted = infos(path)
    with h5py.File(path, "r+") as file:
        file.attrs["complete"] = False
        seal(file)
    with pytest.raises(ValueError, match="--cache must be a finished cache"):
        read(path, fitted)


def test_clips_beyond_memory_lie_in_files_and_have_the_same_values(workspace, monkeypatch):
    path = make_cache(workspace)
    normalizations = [normalization(1.0, 2.0), normalization(-1.0, 0.5)]
    in_memory = read(path, infos(path), normalizations)
    monkeypatch.setattr("amr.fusion.data.folds.memory_at_hand", lambda: 0)
    on_disk = read(path, infos(path), normalizations)
    assert any("they lie in temporary files" in note for note in on_disk.notes)
    assert not on_disk.dataset.embeddings
    for fold, expected in zip(on_disk.folds, in_memory.folds, strict=True):
        assert isinstance(fold.test, DiskClips)
        assert not isinstance(expected.test, DiskClips)
        assert torch.equal(fold.test.embeddings["audio"], expected.test.embeddings["audio"])
        assert torch.equal(fold.test.present, expected.test.present)
        assert torch.equal(fold.train.embeddings["audio"], expected.train.embeddings["audio"])
        assert len(fold.val) == 0


class Counted(str):
    """A name that counts how often it is compared."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other):
        Counted.compared += 1
        return str.__eq__(self, other)


def test_clips_of_unknown_classes_are_not_compared_with_each_of_them(workspace):
    values = [f"class {i}" for i in range(300)]
    clips = pd.DataFrame({"split": [""] * 300})
    target = torch.tensor([0] + [-1] * 299)
    dataset = Dataset(clips, {}, torch.ones(300, 1, dtype=torch.bool), target, ("class 0",), {})
    _, notes = _rows(dataset, workspace / "other.h5", [Counted(value) for value in values])
    assert notes[1].startswith("299 clips of other.h5 are left out: no run knows their classes (class 1, class 10,")
    assert Counted.compared < 3 * 300
