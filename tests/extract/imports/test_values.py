from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from amr.extract.arrays import ArraySpec, Rows
from amr.extract.cache.writer import Embedded, joined
from amr.extract.config import ImportConfig
from amr.extract.import_embeddings import import_embeddings
from amr.extract.imports.sources import Source
from amr.extract.imports.values import Conversion


def convert(values: np.ndarray, lengths: list[float] | None = None, file: str = "x.npy") -> tuple[Embedded, list[str]]:
    source = Source("--embeddings x", ArraySpec(Path(file)), Rows(values))
    conversion = Conversion(source, None, "float32", None if lengths is None else np.array(lengths, dtype=float))
    return joined(list(conversion.blocks())), conversion.notes()


def steps(*clips: list[float]) -> np.ndarray:
    """Sequences of vectors of two equal values."""
    return np.repeat(np.array(clips, dtype=float)[..., None], 2, axis=-1)


def test_steps_of_nan_are_no_steps():
    nan = np.nan
    rows, notes = convert(steps([1, 2, nan, nan], [1, 2, 3, 4], [nan] * 4, [nan, nan, 5, nan], [1, nan, 2, nan]))
    assert rows.num_steps.tolist() == [2, 4, 0, 1, 2]
    assert rows.present.tolist() == [True, True, False, True, True]
    assert rows.values[..., 0].tolist() == [[1, 2, 0, 0], [1, 2, 3, 4], [0] * 4, [5, 0, 0, 0], [1, 2, 0, 0]]
    assert notes == [
        "--embeddings x: steps of only NaN are left out in 3 clips",
        "--embeddings x: 1 row holds only NaN and counts as absent",
    ]


def test_lengths_say_which_steps_count():
    rows, _ = convert(steps([1, 2, 9, 9], [1, 2, 3, 4], [9] * 4, [np.nan] * 4), [2, 4, 0, np.nan])
    assert rows.num_steps.tolist() == [2, 4, 0, 0]
    assert rows.present.tolist() == [True, True, False, False]
    assert rows.values[..., 0].tolist() == [[1, 2, 0, 0], [1, 2, 3, 4], [0] * 4, [0] * 4]
    rows, _ = convert(steps([np.nan, np.nan, 0, 0], [1, 0, np.nan, np.nan]), [2, 2])
    assert (rows.num_steps.tolist(), rows.present.tolist()) == ([0, 2], [False, True])
    with pytest.raises(ValueError, match=r"must be finite in float32, .* Correct --lengths, which counts steps"):
        convert(steps([1, np.nan, 0, 0]), [2])


@pytest.mark.parametrize(("length", "got"), [(5, "5"), (-1, "-1"), (1.5, "1.5"), (np.nan, "nan")])
def test_wrong_lengths_are_refused(length, got):
    with pytest.raises(ValueError, match=rf"whole numbers from 0 to the 4 steps of .*got {got} in row 1"):
        convert(steps([1, 2, 3, 4], [1, 2, 3, 4]), [4, length])
    with pytest.raises(ValueError, match=r"--lengths must be for an embedding with steps, got .* \(2, 3\)"):
        convert(np.ones((2, 3)), [1, 1])


def test_padding_with_zeros_is_pointed_out():
    rows, notes = convert(steps([1, 2, 0, 0], [1, 2, 3, 4], [0] * 4))
    assert rows.num_steps.tolist() == [4, 4, 4]
    assert notes == [
        "--embeddings x: 1 clip ends in steps of zeros, which count as steps. "
        "If they are padding, pass --lengths FILE with the number of steps of each clip."
    ]


@pytest.mark.parametrize(
    ("file", "advice"),
    [
        ("x.npy", r"save it as x\[:, None\]"),
        ("x.txt", r"save it as x\[:, None\]"),
        ("x.csv", "write a header as the first line and name it, FILE:COLUMN"),
    ],
)
def test_one_number_per_clip_is_refused_with_what_to_type(file, advice):
    with pytest.raises(ValueError, match=rf"got one number per clip, \(5,\) in {file}\. If .*{advice}\."):
        convert(np.arange(5.0), file=file)


def test_the_only_column_of_numbers_is_named(tmp_path):
    (tmp_path / "t.csv").write_text("id,label,pitch\nc0,a,1\nc1,b,2\n")
    options = {"labels": f"{tmp_path}/t.csv", "out": f"{tmp_path}/o.h5"}
    with pytest.raises(ValueError, match=r"got one number per clip, .* name its column: t\.csv:pitch\."):
        import_embeddings(ImportConfig(embeddings=(f"x={tmp_path}/t.csv",), **options))
    result = import_embeddings(ImportConfig(embeddings=(f"x={tmp_path}/t.csv:pitch",), **options))
    assert result.dims == {"x": (1,)}


def test_objects_and_empty_text_as_numbers():
    rows, _ = convert(np.array([["1", 2.5], ["", None]], dtype=object))
    assert rows.values.tolist() == [[1, 2.5], [0, 0]]
    assert rows.present.tolist() == [True, False]
    for wrong in (np.array([["x", "1"]], dtype=object), np.ones((2, 2), dtype=complex), np.zeros((3, 0))):
        with pytest.raises(ValueError, match="must be numbers"):
            convert(wrong)
    with pytest.raises(ValueError, match="--embeddings x must have one row per clip, got no rows"):
        convert(np.zeros((0, 3)))


def test_lengths_of_each_embedding(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("s.npy", np.ones((3, 4, 2)))
    np.save("v.npy", np.ones((3, 2)))
    np.save("lengths.npy", [1, 2, 4])
    Path("other.txt").write_text("4\n3\n2\n")
    Path("labels.txt").write_text("a\nb\na\n")
    options = {"embeddings": ("s=s.npy", "t=s.npy", "v=v.npy"), "labels": "labels.txt", "out": "o.h5"}
    result = import_embeddings(ImportConfig(lengths=("lengths.npy", "t=other.txt"), **options))
    from amr.extract.cache.reader import Cache

    with Cache.open(result.cache) as cache:
        assert cache.num_steps("s").tolist() == [1, 2, 4]
        assert cache.num_steps("t").tolist() == [4, 3, 2]
        assert cache.num_steps("v") is None
        assert set(cache.info("s").preprocessing) == {"file_sha256", "lengths_sha256"}
        assert set(cache.info("v").preprocessing) == {"file_sha256"}
    for lengths, message in (
        (("x=other.txt",), r"--lengths NAME must be one of s, t, v, got 'x'"),
        (("lengths.npy", "other.txt"), "--lengths must be given once per embedding, got lengths.npy and other.txt"),
        (("v=lengths.npy",), "--lengths must be for an embedding with steps"),
        (("labels.txt",), "--lengths must be numbers, got could not convert string to float: 'a' in labels.txt"),
    ):
        with pytest.raises(ValueError, match=message):
            import_embeddings(ImportConfig(lengths=lengths, overwrite=True, **options))
    with pytest.raises(ValueError, match="got none with steps"):
        import_embeddings(ImportConfig(embeddings=("v=v.npy",), labels="labels.txt", out="p.h5", lengths=("x.txt",)))


@pytest.mark.parametrize("block_values", [1, 7, 1000])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_blocks_of_any_size_give_the_same(monkeypatch, block_values, dtype):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(9, 4, 3))
    values[2] = values[5, 1] = values[7, 2:] = np.nan
    order = np.array([8, 2, -1, 5, 7, 0, 0])
    expected = np.zeros((7, 4, 3))
    expected[[0, 5, 6]] = values[[8, 0, 0]]
    expected[3, :3] = values[5, [0, 2, 3]]
    expected[4, :2] = values[7, :2]
    monkeypatch.setattr("amr.extract.imports.values.BLOCK_VALUES", block_values)
    conversion = Conversion(Source("--embeddings x", ArraySpec(Path("x.npy")), Rows(values)), order, dtype)
    rows = joined(list(conversion.blocks()))
    np.testing.assert_array_equal(rows.values, expected.astype(dtype))
    assert rows.num_steps.tolist() == [4, 0, 0, 3, 2, 4, 4]
    assert rows.present.tolist() == [True, False, False, True, True, True, True]
    assert conversion.num_present == 5
    assert conversion.notes() == [
        "--embeddings x: steps of only NaN are left out in 2 clips",
        "--embeddings x: 2 rows hold only NaN and count as absent",
    ]


def test_clips_of_too_many_numbers_are_refused():
    rows = Rows(np.broadcast_to(np.float32(0), (2, 10**9)))
    with pytest.raises(ValueError, match=r"at most 33,554,432 numbers per clip, got 1,000,000,000 in x\.npy"):
        Conversion(Source("--embeddings x", ArraySpec(Path("x.npy")), rows), None, "float32")
