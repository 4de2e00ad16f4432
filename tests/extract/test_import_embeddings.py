from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.io import savemat

from amr.extract.cache.reader import Cache
from amr.extract.cache.verify import inspect, verify
from amr.extract.config import ImportConfig
from amr.extract.import_embeddings import import_embeddings

ROWS = np.arange(12, dtype=np.float64).reshape(6, 2) / 8


def run(tmp_path: Path, **options: object) -> Cache:
    values = {"embeddings": (f"audio={tmp_path}/a.npy",), "labels": f"{tmp_path}/labels.txt"} | options
    np.save(tmp_path / "a.npy", ROWS)
    if not (tmp_path / "labels.txt").exists():
        (tmp_path / "labels.txt").write_text("cat\ndog\ncat\ndog\ncat\n\n")
    out = tmp_path / "out.h5"
    import_embeddings(ImportConfig(out=str(out), overwrite=True, **values))
    assert verify(out)["problems"] == []
    return Cache.open(out)


def write(path: Path, array: np.ndarray) -> None:
    """Write the same numbers to any kind of file."""
    frame = pd.DataFrame(array, columns=[f"d{i}" for i in range(array.shape[1])])
    {
        ".npy": lambda: np.save(path, array),
        ".npz": lambda: np.savez(path, x=array),
        ".mat": lambda: savemat(path, {"x": array}),
        ".csv": lambda: frame.to_csv(path, index=False),
        ".parquet": lambda: frame.to_parquet(path),
        ".pt": lambda: torch.save({"x": torch.from_numpy(array)}, path),
    }[path.suffix]()


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat", ".csv", ".parquet", ".pt"])
def test_every_kind_of_file_gives_the_same(tmp_path, suffix):
    write(tmp_path / f"x{suffix}", ROWS)
    with run(tmp_path, embeddings=(f"x={tmp_path}/x{suffix}",)) as cache:
        np.testing.assert_array_equal(cache.embedding("x"), ROWS.astype(np.float32))


def test_a_single_class_and_an_unusual_name_are_noted(tmp_path):
    np.save(tmp_path / "a.npy", ROWS)
    np.save(tmp_path / "labels.npy", np.zeros(6, int))
    settings = {"embeddings": {"audio": tmp_path / "a.npy"}, "labels": tmp_path / "labels.npy"}
    result = import_embeddings(ImportConfig(out=tmp_path / "x.txt", **settings))
    assert result.notes == [
        "label: every clip is '0': amr fit will refuse a single class. Pass --labels FILE.",
        f"--out {tmp_path / 'x.txt'} does not end with .h5: the cache is found by its path only, not by its name",
    ]


def test_the_summary_has_shapes_in_one_line(tmp_path):
    np.save(tmp_path / "a.npy", ROWS)
    np.save(tmp_path / "v.npy", np.ones((6, 3, 4)))
    np.save(tmp_path / "labels.npy", np.arange(6) % 2)
    config = ImportConfig(
        embeddings={"audio": tmp_path / "a.npy", "video": tmp_path / "v.npy"},
        labels=tmp_path / "labels.npy",
        splits={"train": 4, "test": np.int64(2)},
        out=tmp_path / "x.h5",
    )
    summary = import_embeddings(config).summary()
    assert summary["dims"] == "audio 2, video 3 x 4"
    assert list(summary) == ["cache", "clips", "embedded", "dims", "classes", "splits"]


def test_the_summary_of_continuous_labels_is_their_range(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((40, 2)))
    np.save(tmp_path / "scores.npy", np.linspace(-3, 3, 40))
    config = ImportConfig(
        embeddings={"audio": tmp_path / "a.npy"},
        labels=tmp_path / "scores.npy",
        splits={"train": 30, "test": 10},
        out=tmp_path / "x.h5",
    )
    result = import_embeddings(config)
    assert result.to_json()["classes"] == inspect(tmp_path / "x.h5")["classes"] == {}
    assert result.summary()["numbers"] == inspect(tmp_path / "x.h5")["numbers"]
    assert result.summary()["numbers"] == {"distinct": 40, "min": -3.0, "max": 3.0}
    assert "classes" not in result.summary()


@pytest.mark.parametrize(("umask", "mode"), [(0o027, 0o640), (0o077, 0o600)])
def test_an_imported_cache_is_as_readable_as_the_umask_says(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        run(tmp_path).close()
    finally:
        os.umask(before)
    assert (tmp_path / "out.h5").stat().st_mode & 0o777 == mode


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.array([3.0, 1.0, 0.5, np.nan, 2.0, 2.0]), ["3", "1", "0.5", "", "2", "2"]),
        (np.array([[1], [2], [3], [1], [2], [3]], dtype=np.uint8), ["1", "2", "3", "1", "2", "3"]),
        (np.array([[1, 2, 3, 1, 2, 3]]), ["1", "2", "3", "1", "2", "3"]),
        (np.array(["a", "b", "c", "007", "1.0", ""]), ["a", "b", "c", "007", "1.0", ""]),
    ],
)
def test_labels_are_written_as_people_write_them(tmp_path, labels, expected):
    np.save(tmp_path / "labels.npy", labels)
    with run(tmp_path, labels=f"{tmp_path}/labels.npy") as cache:
        assert list(cache.table()["label"]) == expected


def test_labels_of_savetxt_are_numbers(tmp_path):
    np.savetxt(tmp_path / "labels.txt", np.arange(6))
    with run(tmp_path) as cache:
        assert list(cache.table()["label"]) == ["0", "1", "2", "3", "4", "5"]


def test_ids_groups_and_splits(tmp_path):
    ids = ["1_a", "1_b", "2_a", "NA", "007_", "1e5"]
    (tmp_path / "ids.txt").write_text("\n".join([*ids, "one too many"]))
    with run(tmp_path, ids=f"{tmp_path}/ids.txt:6", groups="ids:^(.)", splits="train=4,test=2") as cache:
        clips = cache.table()
    assert list(clips["id"]) == ids
    assert list(clips["group"]) == ["1", "1", "2", "N", "0", "1"]
    assert list(clips["split"]) == ["train"] * 4 + ["test"] * 2


def test_columns_join_on_id(tmp_path):
    (tmp_path / "ids.txt").write_text("a\nb\nc\nd\ne\nf\n")
    (tmp_path / "votes.csv").write_text("id,votes,label,group,path\nb,NA,x,g1,b.mp4\nzz,9,y,g2,z.mp4\na,1,x,g1,a.mp4\n")
    config = ImportConfig(
        embeddings=(f"audio={tmp_path}/a.npy",),
        ids=f"{tmp_path}/ids.txt",
        labels=f"{tmp_path}/ids.txt",
        columns=f"{tmp_path}/votes.csv",
        out=str(tmp_path / "o.h5"),
    )
    np.save(tmp_path / "a.npy", ROWS)
    result = import_embeddings(config)
    assert list(result.table["votes"]) == ["1", "NA", "", "", "", ""]
    assert list(result.table["label"]) == list("abcdef")
    assert list(result.table["group"]) == ["g1", "g1", "", "", "", ""]
    assert result.to_json()["columns"] == ["votes"]
    assert set(result.table["path"]) == {""}
    assert "a row for 2 of 6 clips; left out: 1 id of no clip" in result.notes[0]


def test_rows_of_nan_are_absent_and_other_nan_is_refused(tmp_path):
    absent = ROWS.copy()
    absent[2] = np.nan
    np.save(tmp_path / "b.npy", absent)
    with run(tmp_path, embeddings=(f"b={tmp_path}/b.npy",)) as cache:
        assert list(cache.present("b")) == [True, True, False, True, True, True]
        assert not cache.embedding("b")[2].any()
    absent[2, 0] = 1
    np.save(tmp_path / "b.npy", absent)
    with pytest.raises(ValueError, match=r"other values in row 2 of b\.npy\. A row must be NaN in all dimensions or"):
        run(tmp_path, embeddings=(f"b={tmp_path}/b.npy",))
    np.save(tmp_path / "b.npy", ROWS * 1e6)
    with pytest.raises(ValueError, match=r"finite in float16.*Pass --dtype float32"):
        run(tmp_path, embeddings=(f"b={tmp_path}/b.npy",), dtype="float16")


def test_embeddings_with_steps(tmp_path):
    np.save(tmp_path / "s.npy", np.ones((6, 4, 3), dtype=np.float16))
    with run(tmp_path, embeddings=(f"s={tmp_path}/s.npy",)) as cache:
        assert cache.info("s").row_shape == (4, 3)
        assert list(cache.num_steps("s")) == [4] * 6


def test_wrong_requests_are_refused(tmp_path):
    np.save(tmp_path / "short.npy", ROWS[:4])
    (tmp_path / "twice.txt").write_text("a\nb\na\nc\nd\ne\n")
    np.save(tmp_path / "one.npy", np.ones(6))
    np.save(tmp_path / "none.npy", ROWS[:0])
    np.save(tmp_path / "complex.npy", ROWS.astype(complex))
    short = (f"audio={tmp_path}/a.npy", f"video={tmp_path}/short.npy")
    for options, message in (
        (
            {"embeddings": short},
            r"--embeddings video must have as many rows as --embeddings audio \(6\), got 4.* pass FILE:4",
        ),
        (
            {"labels": f"{tmp_path}/short.npy"},
            r"--labels must be one value per clip, .* pass --columns CSV .* --task multilabel --label A,B\.",
        ),
        (
            {"labels": f"{tmp_path}/none.npy"},
            r"--labels must have one row per clip, got no rows, \(0, \d\) in none\.npy\.",
        ),
        ({"embeddings": (f"a={tmp_path}/none.npy",)}, "--embeddings a must have one row per clip, got no rows"),
        (
            {"embeddings": (f"a={tmp_path}/complex.npy",)},
            r"must be numbers, .* in complex\.npy\. Name a file of numbers",
        ),
        ({"labels": f"{tmp_path}/twice.txt:3"}, r"must have as many rows as the embeddings \(6\), got 3"),
        ({"ids": f"{tmp_path}/twice.txt"}, "--ids must be unique and not empty, got 'a' in row 2 and in row 0"),
        ({"splits": "train=4,tset=2"}, r"got 'tset'\. Did you mean test"),
        ({"splits": "train=4,test=1"}, "--splits must add up to the 6 rows"),
        ({"groups": "ids:("}, "must be a regular expression"),
        ({"groups": "ids:x"}, "must match every id, got '0'"),
        ({"embeddings": (f"a={tmp_path}/labels.txt",)}, "must be numbers"),
        ({"embeddings": (f"a={tmp_path}/one.npy",)}, r"got one number per clip, \(6,\) in one\.npy.*x\[:, None\]"),
    ):
        with pytest.raises(ValueError, match=message):
            run(tmp_path, **options)
    with pytest.raises(FileNotFoundError, match="--columns must be a CSV file or a dataset"):
        run(tmp_path, columns="crema-e")


def notes_of(tmp_path: Path, **options: object) -> list[str]:
    np.save(tmp_path / "a.npy", ROWS)
    config = {"embeddings": (f"audio={tmp_path}/a.npy",), "labels": f"{tmp_path}/labels.txt"} | options
    return import_embeddings(ImportConfig(out=str(tmp_path / "o.h5"), overwrite=True, **config)).notes


def test_labels_that_differ_by_blanks_are_one_class(tmp_path):
    np.save(tmp_path / "labels.npy", np.array(["cat", "cat ", " dog", "dog", "cat", ""]))
    with run(tmp_path, labels=f"{tmp_path}/labels.npy") as cache:
        assert list(cache.table()["label"]) == ["cat", "cat", "dog", "dog", "cat", ""]
    assert notes_of(tmp_path, labels=f"{tmp_path}/labels.npy") == [
        "label: blanks around 2 values are left out, such as in 'cat '"
    ]


def test_continuous_labels_are_kept_and_pointed_out(tmp_path):
    np.save(tmp_path / "labels.npy", np.array([-1.5, 0.25, 3, 0, 0.75, -0.1]))
    with run(tmp_path, labels=f"{tmp_path}/labels.npy") as cache:
        assert list(cache.table()["label"]) == ["-1.5", "0.25", "3", "0", "0.75", "-0.1"]
    (note,) = notes_of(tmp_path, labels=f"{tmp_path}/labels.npy")
    assert "with 6 different numbers for 6 clips" in note
    assert "Pass --task regression to amr fit" in note


def test_groups_on_both_sides_of_a_split_are_counted(tmp_path):
    (tmp_path / "groups.txt").write_text("ann\nann\nbob\nbob\nann\nbob\n")
    (tmp_path / "labels.txt").write_text("cat\ndog\n" * 3)
    (note,) = notes_of(tmp_path, groups=f"{tmp_path}/groups.txt", splits="train=4,test=2")
    assert note.startswith("split: 2 of 2 groups have clips in more than one of train, val and test, such as 'ann'")
    assert notes_of(tmp_path, groups=f"{tmp_path}/groups.txt", splits="train=6") == []


def test_embeddings_keep_the_order_of_the_options(tmp_path):
    names = ("video", "audio", "text")
    with run(tmp_path, embeddings=tuple(f"{name}={tmp_path}/a.npy" for name in names)) as cache:
        assert cache.names == list(names)
        assert cache.is_ordered


def test_a_class_called_nan_is_a_class(tmp_path):
    (tmp_path / "labels.txt").write_text("10\nnan\n9\nnan\n10\n9\n")
    config = ImportConfig(
        embeddings=(f"a={tmp_path}/a.npy",), labels=f"{tmp_path}/labels.txt", out=str(tmp_path / "o.h5")
    )
    np.save(tmp_path / "a.npy", ROWS)
    assert list(import_embeddings(config).to_json()["classes"]) == ["9", "10", "nan"]


def test_long_fields_of_columns_are_carried(tmp_path):
    transcript = "w " * 70_000 + "end"
    rows = [f'{i}, {"ab"[i % 2]} ,"{transcript}"' for i in range(6)]
    (tmp_path / "t.csv").write_text("\n".join(["id, label,transcript", *rows]))
    with run(tmp_path, labels=None, columns=f"{tmp_path}/t.csv") as cache:
        assert list(cache.table()["label"]) == list("ababab")
        assert set(cache.table()["transcript"]) == {transcript}


def test_a_cache_is_replaced_only_with_overwrite(tmp_path):
    run(tmp_path).close()
    config = ImportConfig(
        embeddings=(f"a={tmp_path}/a.npy",), labels=f"{tmp_path}/labels.txt", out=str(tmp_path / "out.h5")
    )
    with pytest.raises(ValueError, match="--overwrite to replace it"):
        import_embeddings(config)


def test_six_view_digits(test_data, tmp_path):
    file = test_data / "handwritten" / "handwritten_6views.mat"
    config = ImportConfig(
        embeddings=tuple(f"view{i}={file}:x{i}_train+x{i}_test" for i in range(1, 7)),
        labels=f"{file}:gt_train+gt_test",
        splits="train=1600,test=400",
        out=str(tmp_path / "digits.h5"),
    )
    result = import_embeddings(config).to_json()
    assert result["embedded"] == {f"view{i}": 2000 for i in range(1, 7)}
    assert [result["dims"][f"view{i}"] for i in range(1, 7)] == [[240], [76], [216], [47], [64], [6]]
    assert result["splits"] == {"train": 1600, "test": 400}
    assert sorted(result["classes"], key=int) == [str(i) for i in range(1, 11)]


@pytest.mark.parametrize(("regime", "num_clips"), [("normal", 744), ("umt", 720)])
def test_crema_d_embeddings(test_data, tmp_path, regime, num_clips):
    folder = test_data / "cremad-embeddings"
    config = ImportConfig(
        embeddings=(
            f"audio={folder}/{regime}/audio_features.npy",
            f"video={folder}/{regime}/visual_features.npy",
        ),
        labels=f"{folder}/{regime}/all_labels.npy",
        ids=f"{folder}/clips.txt:{num_clips}",
        groups="ids:^[0-9]+",
        columns="crema-d",
        out=str(tmp_path / f"{regime}.h5"),
    )
    result = import_embeddings(config)
    assert result.to_json()["embedded"] == {"audio": num_clips, "video": num_clips}
    assert list(result.table["group"]) == [id_.split("_")[0] for id_ in result.table["id"]]
    assert any("votes" in column or column.startswith("voice") for column in result.columns)
    assert verify(tmp_path / f"{regime}.h5")["problems"] == []


def test_out_without_a_slash_is_a_name_in_the_workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("AMR_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.eye(4, 3))
    Path("labels.txt").write_text("x\ny\nx\ny\n")
    request = {"embeddings": ("a=a.npy",), "labels": "labels.txt"}
    assert import_embeddings(ImportConfig(**request, out="mine")).cache == tmp_path / "home" / "caches" / "mine.h5"
    assert import_embeddings(ImportConfig(**request, out="./mine.h5")).cache == Path("mine.h5")
