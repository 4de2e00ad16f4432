from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.io import savemat

from amr.extract.arrays import parse_array_spec, read_array
from amr.extract.cache.reader import Cache
from amr.extract.cache.verify import verify
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
    """The same numbers in every kind of file."""
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


def test_matlab_7_3(tmp_path):
    with h5py.File(tmp_path / "x.mat", "w", userblock_size=512) as file:
        file["x"] = ROWS.T  # MATLAB's columns first
    header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
    with (tmp_path / "x.mat").open("r+b") as file:
        file.write(header)
    np.testing.assert_array_equal(read_array(parse_array_spec(f"{tmp_path}/x.mat:x", "--x")), ROWS)


def test_headers_of_csv(tmp_path):
    path = tmp_path / "x.csv"
    for header in ("0,1\n", "a,b\n", ""):  # pandas' numbers for names, names, none
        path.write_text(header + "7,8\n9,10\n")
        assert read_array(parse_array_spec(str(path), "--x")).tolist() == [["7", "8"], ["9", "10"]]
    path.write_text(",a\n0,8\n1,10\n")
    with pytest.raises(ValueError, match="a column without a name"):
        read_array(parse_array_spec(str(path), "--x"))


def test_keys_and_first_rows(tmp_path):
    path = tmp_path / "views.npz"
    np.savez(path, train=ROWS[:4], test=ROWS[4:], other=np.zeros((2, 3)))
    for text, expected in (("train+test", ROWS), ("test", ROWS[4:]), ("train:3", ROWS[:3])):
        np.testing.assert_array_equal(read_array(parse_array_spec(f"{path}:{text}", "--x")), expected)
    np.save(tmp_path / "with:colon.npy", ROWS)
    assert len(read_array(parse_array_spec(f"{tmp_path}/with:colon.npy", "--x"))) == 6
    assert len(read_array(parse_array_spec(f"{tmp_path}/with:colon.npy:2", "--x"))) == 2
    for text, said in (
        (f"{path}", "must be given with a key, since it holds train, test, other"),
        (f"{path}:tset", r"got 'tset'\. Did you mean test\?"),
        (f"{path}:train+other", r"rows of one shape, got \(4, 2\) and \(2, 3\)"),
        (f"{path}:train:9", "must have that many rows, got 4"),
    ):
        with pytest.raises(ValueError, match=said):
            read_array(parse_array_spec(text, "--x"))
    with pytest.raises(FileNotFoundError, match="--x must name a file that is there"):
        parse_array_spec("absent.npy:x", "--x")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat", ".csv", ".parquet", ".pt"])
def test_damaged_files_are_refused(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"\x80\x04no such thing\x00\xff")
    with pytest.raises(ValueError, match="must be a readable"):
        read_array(parse_array_spec(str(path), "--x"))


def test_pickles_are_not_run(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    torch.save({"x": Path("/")}, tmp_path / "x.pt")
    for name in ("x.npy", "x.pt"):
        with pytest.raises(ValueError, match="must be a readable"):
            read_array(parse_array_spec(str(tmp_path / name), "--x"))


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
    assert "2 of 6 clips have a row; 1 of its ids are unknown" in result.notes[0]


def test_rows_of_nan_are_absent_and_other_nan_refused(tmp_path):
    absent = ROWS.copy()
    absent[2] = np.nan
    np.save(tmp_path / "b.npy", absent)
    with run(tmp_path, embeddings=(f"b={tmp_path}/b.npy",)) as cache:
        assert list(cache.present("b")) == [True, True, False, True, True, True]
        assert not cache.embedding("b")[2].any()
    absent[2, 0] = 1
    np.save(tmp_path / "b.npy", absent)
    with pytest.raises(ValueError, match="must be finite in float32, got 1 rows that are not, first row 2"):
        run(tmp_path, embeddings=(f"b={tmp_path}/b.npy",))
    np.save(tmp_path / "b.npy", ROWS * 1e6)
    with pytest.raises(ValueError, match=r"finite in float16.*Pass --dtype float32"):
        run(tmp_path, embeddings=(f"b={tmp_path}/b.npy",), dtype="float16")


def test_embeddings_with_steps(tmp_path):
    np.save(tmp_path / "s.npy", np.ones((6, 4, 3), dtype=np.float16))
    with run(tmp_path, embeddings=(f"s={tmp_path}/s.npy",)) as cache:
        assert cache.info("s").row_shape == (4, 3)
        assert list(cache.num_steps("s")) == [4] * 6


def test_what_is_refused(tmp_path):
    np.save(tmp_path / "short.npy", ROWS[:4])
    (tmp_path / "twice.txt").write_text("a\nb\na\nc\nd\ne\n")
    np.save(tmp_path / "wide.npy", np.ones((6, 3)))
    short = (f"audio={tmp_path}/a.npy", f"video={tmp_path}/short.npy")
    for options, said in (
        (
            {"embeddings": short},
            r"--embeddings video must have as many rows as --embeddings audio \(6\), got 4.* pass FILE:4",
        ),
        ({"labels": f"{tmp_path}/short.npy"}, "--labels must be one value a clip"),
        ({"labels": f"{tmp_path}/twice.txt:3"}, r"must have as many rows as the embeddings \(6\), got 3"),
        ({"ids": f"{tmp_path}/twice.txt"}, "--ids must be one of its own a clip, got 'a' in row 2 and in row 0"),
        ({"splits": "train=4,tset=2"}, r"got 'tset'\. Did you mean test"),
        ({"splits": "train=4,test=1"}, "--splits must add up to the 6 rows"),
        ({"groups": "ids:("}, "must be a regular expression"),
        ({"groups": "ids:x"}, "must find something in every id, got '0'"),
        ({"embeddings": (f"a={tmp_path}/labels.txt",)}, "must be numbers"),
    ):
        with pytest.raises(ValueError, match=said):
            run(tmp_path, **options)
    with pytest.raises(FileNotFoundError, match="--columns must be a CSV file or a dataset"):
        run(tmp_path, columns="crema-e")


def test_a_cache_is_replaced_only_when_asked(tmp_path):
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
