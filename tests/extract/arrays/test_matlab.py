from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import csc_matrix

from amr.extract.arrays import parse_array_spec, read_array

ROWS = np.arange(12, dtype=np.float64).reshape(6, 2) / 8
TEXTS = ["cat", "", "dög 🐕", "a"]


def read(path: Path, key: str) -> np.ndarray:
    return read_array(parse_array_spec(f"{path}:{key}", "--x"))


def put(group: h5py.Group, name: str, data: np.ndarray, kind: str, **attrs: object) -> h5py.Dataset:
    """Write a matrix as MATLAB does: axes in reverse order, its class as an attribute."""
    dataset = group.create_dataset(name, data=data.T)
    dataset.attrs.update({"MATLAB_class": np.bytes_(kind), **attrs})
    return dataset


def put_empty(group: h5py.Group, name: str, kind: str, shape: tuple[int, ...] = (0, 0)) -> h5py.Dataset:
    return put(group, name, np.array(shape, dtype=np.uint64), kind, MATLAB_empty=np.uint8(1))


def put_text(group: h5py.Group, name: str, texts: list[str]) -> h5py.Dataset:
    """Write the rows of a matrix of characters, padded with blanks."""
    codes = [np.frombuffer(text.encode("utf-16-le"), dtype="<u2") for text in texts]
    if not any(len(code) for code in codes):
        return put_empty(group, name, "char")
    padded = np.full((len(codes), max(map(len, codes))), ord(" "), dtype="<u2")
    for row, code in zip(padded, codes, strict=True):
        row[: len(code)] = code
    return put(group, name, padded, "char")


def put_cells(file: h5py.File, name: str, cells: list[h5py.Dataset]) -> None:
    data = np.empty((1, len(cells)), dtype=h5py.ref_dtype)
    data[0] = [cell.ref for cell in cells]
    dataset = file.create_dataset(name, data=data.T, dtype=h5py.ref_dtype)
    dataset.attrs["MATLAB_class"] = np.bytes_("cell")


@pytest.fixture
def mat73(tmp_path):
    path = tmp_path / "x.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        refs = file.create_group("#refs#")
        put(file, "x", ROWS, "double")
        put(file, "flags", np.array([[1, 0, 1]], dtype=np.uint8), "logical", MATLAB_int_decode=1)
        put_text(file, "rows", ["cat", "zebra"])
        put_cells(file, "labels", [put_text(refs, f"t{i}", [text]) for i, text in enumerate(TEXTS)])
        put_cells(file, "numbers", [put(refs, f"n{i}", np.array([[i / 2]]), "double") for i in range(3)])
        vectors = [put(refs, f"v{i}", ROWS[i][None], "double") for i in range(2)]
        put_cells(file, "vectors", [*vectors, put_empty(refs, "none", "double")])
        put_cells(file, "sequences", [put(refs, f"s{i}", ROWS[: i + 1], "double") for i in range(3)])
        put_cells(file, "mixed", [refs["t0"], refs["n0"]])
        put_empty(file, "empty", "double", (0, 5))
        sparse = file.create_group("sparse")
        content = csc_matrix(ROWS)
        sparse.attrs.update(MATLAB_class=np.bytes_("double"), MATLAB_sparse=np.uint64(6))
        for name, values in (("data", content.data), ("ir", content.indices), ("jc", content.indptr)):
            sparse[name] = values
        zeros = file.create_group("zeros")
        zeros.attrs.update(MATLAB_class=np.bytes_("double"), MATLAB_sparse=np.uint64(4))
        zeros["jc"] = np.zeros(4, dtype=np.uint64)
        file.create_group("struct")["field"] = 1
        put(file, "string", np.zeros((1, 6), np.uint32), "string", MATLAB_object_decode=np.int32(3))
        put(file, "complex", np.zeros((2, 2), dtype=[("real", "f8"), ("imag", "f8")]), "double")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    return path


@pytest.fixture
def mat5(tmp_path):
    path = tmp_path / "x5.mat"
    cells = np.empty(3, dtype=object)
    cells[:] = [ROWS[:1], ROWS[:2], ROWS[:3]]
    vectors = np.empty(3, dtype=object)
    vectors[:] = [ROWS[0], ROWS[1], np.zeros((0, 0))]
    mixed = np.empty(2, dtype=object)
    mixed[:] = ["cat", 0.0]
    content = {
        "x": ROWS,
        "flags": np.array([True, False, True]),
        "rows": np.array(["cat", "zebra"]),
        "labels": np.array([*TEXTS[:2], "dog", "a"], dtype=object),
        "numbers": np.array([0, 0.5, 1], dtype=object),
        "vectors": vectors,
        "sequences": cells,
        "mixed": mixed,
        "empty": np.zeros((0, 5)),
        "sparse": csc_matrix(ROWS),
        "zeros": csc_matrix((4, 3)),
        "struct": {"field": 1},
    }
    savemat(path, content)
    return path


@pytest.mark.parametrize("version", ["mat5", "mat73"])
def test_variables_of_every_kind(version, request):
    path = request.getfixturevalue(version)
    np.testing.assert_array_equal(read(path, "x"), ROWS)
    assert read(path, "flags").ravel().tolist() == [1, 0, 1]
    assert read(path, "rows").tolist() == ["cat", "zebra"]
    assert read(path, "numbers").tolist() == [0, 0.5, 1]
    np.testing.assert_array_equal(read(path, "vectors"), [ROWS[0], ROWS[1], [np.nan, np.nan]])
    sequences = read(path, "sequences")
    assert sequences.shape == (3, 3, 2)
    assert np.isnan(sequences).all(-1).sum(-1).tolist() == [2, 1, 0]
    assert read(path, "empty").shape == (0, 5)
    np.testing.assert_array_equal(read(path, "sparse"), ROWS)
    np.testing.assert_array_equal(read(path, "zeros"), np.zeros((4, 3)))


def test_cells_of_text(mat5, mat73):
    assert read(mat73, "labels").tolist() == TEXTS
    assert read(mat5, "labels").tolist() == ["cat", "", "dog", "a"]


@pytest.mark.parametrize("version", ["mat5", "mat73"])
def test_what_is_no_array_is_refused(version, request):
    path = request.getfixturevalue(version)
    with pytest.raises(ValueError, match=r"must hold a matrix or a cell array, got a struct.* In MATLAB, save"):
        read(path, "struct")
    with pytest.raises(ValueError, match="cells of one kind, got text and numbers"):
        read(path, "mixed")


@pytest.mark.parametrize(("key", "kind"), [("string", "an object of class string"), ("complex", "complex numbers")])
def test_objects_of_version_7_3_are_refused(mat73, key, kind):
    with pytest.raises(ValueError, match=f"got {kind}.* cellstr"):
        read(mat73, key)
