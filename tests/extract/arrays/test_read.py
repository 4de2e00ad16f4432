from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from amr.extract.arrays import Expected, parse_array_spec, read_array, read_rows

MATLAB_5 = b"MATLAB 5.0".ljust(124) + b"\x00\x01IM"
ROWS = np.arange(12, dtype=np.float64).reshape(6, 2) / 8


def read(path: Path | str, **expected: object):
    return read_rows(parse_array_spec(str(path), "--x"), Expected(**expected))


def test_keys_and_first_rows(tmp_path):
    path = tmp_path / "views.npz"
    np.savez(path, train=ROWS[:4], test=ROWS[4:], other=np.zeros((2, 3)))
    for text, expected in (("train+test", ROWS), ("test", ROWS[4:]), ("train:3", ROWS[:3])):
        np.testing.assert_array_equal(read_array(parse_array_spec(f"{path}:{text}", "--x")), expected)
    np.save(tmp_path / "with:colon.npy", ROWS)
    assert len(read_array(parse_array_spec(f"{tmp_path}/with:colon.npy", "--x"))) == 6
    assert len(read_array(parse_array_spec(f"{tmp_path}/with:colon.npy:2", "--x"))) == 2
    for text, message in (
        (f"{path}", "must be given with a key, got none; it holds train, test, other"),
        (f"{path}:tset", r"got 'tset'\. Did you mean test\?"),
        (f"{path}:train+other", r"rows of one shape, got \(4, 2\) and \(2, 3\)"),
        (f"{path}:train:9", "must have that many rows, got 4"),
        (f"{path}:train:0", "--x must read at least one row, got "),
    ):
        with pytest.raises(ValueError, match=message):
            read_array(parse_array_spec(text, "--x"))
    with pytest.raises(FileNotFoundError, match="--x must name an existing file"):
        parse_array_spec("absent.npy:x", "--x")


def test_advice_names_a_key_only_where_there_can_be_one(tmp_path):
    np.save(tmp_path / "one.npy", np.float32(3))
    np.savez(tmp_path / "one.npz", one=np.float32(3))
    for name, message in (
        ("one.npy", "must hold one row per clip, got a single value. Name a file with one row per clip."),
        (
            "one.npz",
            "must hold one row per clip, got a single value. Name a key or column with one row per",
        ),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            read(tmp_path / name)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat", ".csv", ".parquet", ".pt"])
def test_damaged_files_are_refused(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"\x80\x04no such thing\x00\xff")
    with pytest.raises(ValueError, match=r"must be (a readable|UTF-8 text)"):
        read(path)


def write_object_npy(path: Path) -> None:
    np.save(path, np.array({"audio": ROWS}, dtype=object), allow_pickle=True)


def write_ragged_npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, x=np.array([ROWS[0], ROWS[0, :1]], dtype=object))


NO_ARRAYS = {
    "raw.npy": (lambda p: ROWS.tofile(p), r"got no header of np\.save \(raw numbers\?\)\. Read raw .* np\.fromfile"),
    "pickle.npy": (lambda p: p.write_bytes(b"\x80\x04N."), "got a pickle of Python objects. Save its arrays with np.s"),
    "dict.npy": (write_object_npy, r"got Python objects, such as a dict .* np\.savez\('dict\.npz', \*\*arrays\)"),
    "ragged.npz": (write_ragged_npz, r"ragged\.npz:x must be a readable array .* got Python objects"),
    "cut.npy": (lambda p: (np.save(p, ROWS), p.write_bytes(p.read_bytes()[:-8])), "must be a readable .npy file"),
    "numpy.pt": (lambda p: torch.save({"x": ROWS}, p), r"got numpy arrays, .* Save torch\.from_numpy\(array\) with"),
    "model.pt": (lambda p: torch.save(torch.nn.Linear(2, 2), p), r"got torch\.nn\.\S+ objects, .* a dict of tensors"),
    "path.pt": (lambda p: torch.save({"x": Path("/")}, p), "got pathlib.* objects"),
    "words.pt": (lambda p: p.write_text("words"), "file, got something that torch.save did not write"),
    "empty.csv": (lambda p: p.touch(), r"empty\.csv must have rows, got an empty file\. Save it again"),
    "empty.npy": (lambda p: p.touch(), r"empty\.npy must have rows, got an empty file\. Save it again"),
    "blank.csv": (lambda p: p.write_text("\n\n"), r"blank\.csv must have rows, got an empty file"),
    "latin.csv": (lambda p: p.write_bytes(b"\xe4,1\n"), r"must be UTF-8 text, got another encoding \(byte 0xe4\)\. S"),
    "latin.txt": (lambda p: p.write_bytes(b"\xe4\n"), r"latin\.txt must be UTF-8 text, got another encoding \(byte"),
    "nested.pt": (lambda p: torch.save({"x": {"y": torch.ones(2)}}, p), "got a dict in a dict. Save the inner one"),
}


@pytest.mark.parametrize("name", NO_ARRAYS)
def test_files_that_are_no_arrays_are_refused_with_harmless_advice(tmp_path, name):
    write, message = NO_ARRAYS[name]
    write(tmp_path / name)
    with pytest.raises(ValueError, match=message) as refused:
        read(tmp_path / name)
    assert "allow_pickle" not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_a_file_is_read_by_its_content(tmp_path):
    with (tmp_path / "archive.npy").open("wb") as file:
        np.savez(file, x=ROWS)
    np.testing.assert_array_equal(read(tmp_path / "archive.npy").values, ROWS)
    with (tmp_path / "single.npz").open("wb") as file:
        np.save(file, ROWS)
    np.testing.assert_array_equal(read(tmp_path / "single.npz").values, ROWS)


def test_a_file_that_is_locked_is_not_called_damaged(tmp_path):
    path = tmp_path / "x.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["x"] = ROWS
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    error = BlockingIOError(11, "Unable to synchronously open file (unable to lock file, errno = 11)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(h5py, "File", lambda *_: (_ for _ in ()).throw(error))
        with pytest.raises(ValueError, match=r"must not be open for writing elsewhere, got a locked file\. Close it"):
            read(path)


def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    if path.suffix == ".pt":
        torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, path)
    elif path.suffix == ".mat":
        savemat(path, arrays)
    else:
        np.savez(path, **arrays)


@pytest.mark.parametrize("name", ["x.npz", "x.pt", "x.mat"])
def test_one_array_per_clip(tmp_path, name):
    arrays = {f"clip_{i:02d}": ROWS[i] for i in range(6)}
    path = tmp_path / name
    save(path, arrays)
    for text, expected in ((path, {"ids": set(arrays)}), (f"{path}:*", {}), (f"{path}:clip_*", {})):
        rows = read(text, **expected)
        assert rows.ids == tuple(arrays)
        np.testing.assert_array_equal(np.asarray(rows.values).reshape(6, 2), ROWS)
    assert read(f"{path}:clip_0[23]").ids == ("clip_02", "clip_03")
    with pytest.raises(ValueError, match=rf"{name}:clip_00, or '{name}:\*' if each is the array of one clip"):
        read(path)


@pytest.mark.parametrize("name", ["x.npz", "x.pt"])
def test_thousands_of_keys_are_one_array_per_clip_and_errors_stay_short(tmp_path, name):
    arrays = {f"clip_{i:05d}": ROWS[i % 6] for i in range(1000)}
    path = tmp_path / name
    save(path, arrays)
    rows = read(path)
    assert rows.ids == tuple(arrays)
    assert rows.values.shape == (1000, 2)
    with pytest.raises(
        ValueError, match=r"one of its 1000: clip_00000, .*got 'clip_0005'\. Did you mean clip"
    ) as refused:
        read(f"{path}:clip_0005")
    assert len(str(refused.value)) < 200
    save(path, arrays | {"names": np.zeros((3, 4))})
    with pytest.raises(ValueError, match=r"it holds 1001: clip_00000, clip_00001, clip_00002, \.\.\.") as refused:
        read(path)
    assert len(str(refused.value)) < 300


def test_sequences_of_clips_are_padded(tmp_path):
    arrays = {"a": np.ones((2, 3), np.float32), "b": np.ones((4, 3), np.float32), "c": np.zeros((0, 3), np.float32)}
    np.savez(tmp_path / "x.npz", **arrays)
    rows = read(f"{tmp_path}/x.npz:*").values
    assert (rows.shape, rows.dtype) == ((3, 4, 3), np.float32)
    assert np.isnan(rows).all(-1).tolist() == [[False] * 2 + [True] * 2, [False] * 4, [True] * 4]
    np.savez(tmp_path / "x.npz", **(arrays | {"d": np.ones((2, 5))}))
    with pytest.raises(ValueError, match=r"vectors of one length, got shape \(2, 3\) in a and \(2, 5\) in d"):
        read(f"{tmp_path}/x.npz:*")


def test_values_of_clips_by_key(tmp_path):
    torch.save({"b": 1, "a": torch.tensor(0), "c": "cat"}, tmp_path / "x.pt")
    rows = read(tmp_path / "x.pt", ids={"a", "b", "c"})
    assert (rows.ids, rows.values.tolist()) == (("b", "a", "c"), [1, 0, "cat"])


def test_a_list_of_tensors(tmp_path):
    torch.save([torch.ones(2, 3), torch.ones(1, 3)], tmp_path / "x.pt")
    assert read(tmp_path / "x.pt").values.shape == (2, 2, 3)


def test_a_folder_of_one_file_per_clip(tmp_path):
    for i, id_ in enumerate(("b", "a", "c.1")):
        np.save(tmp_path / f"{id_}.npy", ROWS[i])
    rows = read(tmp_path)
    assert rows.ids == ("a", "b", "c.1")
    np.testing.assert_array_equal(rows.values, ROWS[[1, 0, 2]])
    assert read(f"{tmp_path}:2").ids == ("a", "b")
    np.save(tmp_path / "a_rgb.npy", np.ones((3, 2)))
    np.save(tmp_path / "b_rgb.npy", np.ones((1, 2)))
    rows = read(f"{tmp_path}:*_rgb.npy")
    assert (rows.ids, rows.values.shape) == (("a", "b"), (2, 3, 2))
    (tmp_path / "d.csv").write_text("x,y\n1,2\n")
    with pytest.raises(ValueError, match=r"files of one kind, one per clip, got 5 \.npy, 1 \.csv|got 1 \.csv, 5 \.npy"):
        read(tmp_path)
    assert np.asarray(read(f"{tmp_path}:*.csv").values).tolist() == [[1, 2]]
    with pytest.raises(ValueError, match="got none of 6"):
        read(f"{tmp_path}:*.mp4")


def test_the_current_folder_and_its_files_have_names_in_errors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", ROWS)
    Path("b.csv").touch()
    with pytest.raises(ValueError, match=f"^{tmp_path.name} must hold files of one kind"):
        read_rows(parse_array_spec(".", "--embeddings audio"))
    with pytest.raises(ValueError, match=r"^b\.csv must have rows, got an empty file"):
        read_rows(parse_array_spec(".:*.csv", "--embeddings audio"))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from([".npy", ".npz", ".mat", ".csv", ".parquet", ".pt", ".txt"]),
    start=st.sampled_from(
        [b"", b"\x93NUMPY\x01\x00", b"PK\x03\x04", b"PAR1", b"MATLAB 5.0".ljust(124) + b"\x00\x01IM", b"\x80"]
    ),
    content=st.binary(max_size=64),
)
def test_any_bytes_are_read_or_refused_in_one_sentence(tmp_path, suffix, start, content):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(start + content)
    try:
        read(path)
        return
    except ValueError as error:
        said = str(error)
    assert re.search(r"^\S.* must .*, got .*\.$", said), said
    assert "\n" not in said


def test_pipes_are_refused_and_crashes_end_in_a_sentence(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "x.npy")
    with pytest.raises(ValueError, match=r"x\.npy must be a file, got a pipe or a device"):
        read(tmp_path / "x.npy")
    savemat(tmp_path / "x.mat", {"x": ROWS})
    monkeypatch.setattr("scipy.io.loadmat", lambda *args, **settings: os.kill(os.getpid(), signal.SIGSEGV))
    with pytest.raises(
        ValueError, match=r"x\.mat must be a readable .* got content that ends its reader \(SIGSEGV\)\."
    ):
        read(tmp_path / "x.mat")
    (tmp_path / "folder").mkdir()
    savemat(tmp_path / "folder" / "a.mat", {"x": ROWS})
    with pytest.raises(ValueError, match=r"folder must be a readable folder, got .* ends its reader \(SIGSEGV\)\."):
        read(tmp_path / "folder")
