from __future__ import annotations

import pandas as pd
import pytest

from amr.common.progress import Progress
from amr.fusion.end_to_end import data as module
from amr.fusion.end_to_end.data import read_media_data

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
    assert clips.rows.tolist() == plain.rows.test.tolist()
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": ("audio=logmel",)}, "--encoder audio must have weights to train, got 'logmel'"),
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
