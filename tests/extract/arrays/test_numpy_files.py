from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from amr.common.files import memory
from amr.extract.arrays import ArraySpec, read_rows

X = np.arange(12, dtype=np.float32).reshape(6, 2)


def header(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": dtype, "fortran_order": False, "shape": shape})
    return content.getvalue()


def test_the_content_decides_between_npy_and_npz(tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "z.npz", x=X)
    (tmp_path / "x.npy").rename(tmp_path / "renamed.npz")
    (tmp_path / "z.npz").rename(tmp_path / "renamed.npy")
    for name in ("renamed.npz", "renamed.npy"):
        np.testing.assert_array_equal(np.asarray(read_rows(ArraySpec(tmp_path / name)).values), X)
    torch.save(torch.from_numpy(X), tmp_path / "t.npz")
    with pytest.raises(ValueError, match=r"must hold arrays of np\.savez, got 't/data.pkl'.* the suffix \.pt"):
        read_rows(ArraySpec(tmp_path / "t.npz"))


@pytest.mark.parametrize(
    "content",
    [
        header((10**12, 10**6)) + b"1" * 48,
        header((-6, 2)) + b"1" * 48,
        header((6, 2))[:40],
        header((6, 2)) + b"1" * 47,
        b"\x93NUMPY\x01\x00v\x00{" + b"(" * 115 + b"\n",
        b"\x93NUMPY\x09\x00v\x00",
    ],
)
def test_a_header_that_lies_is_refused(tmp_path, content):
    (tmp_path / "x.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "z.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", content)
    for name in ("x.npy", "z.npz"):
        with pytest.raises(ValueError, match=rf"{name} must be a readable .* got .*Save it again"):
            read_rows(ArraySpec(tmp_path / name))


def test_what_memory_cannot_hold_is_refused_with_both_numbers(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "z.npz", x=np.zeros((1000, 1000)))
    monkeypatch.setattr(memory, "memory_at_hand", lambda: 2**20)
    with pytest.raises(ValueError, match=r"z.npz:x must fit into the 1\.0 MiB of memory at hand, got 7\.6 MiB"):
        read_rows(ArraySpec(tmp_path / "z.npz"))


def test_a_flipped_byte_of_an_archive_is_seen(tmp_path):
    file = Path(tmp_path / "z.npz")
    np.savez(file, x=X)
    content = bytearray(file.read_bytes())
    content[content.index(X.tobytes()) + 5] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"z\.npz must be a readable \.npz file, got Bad CRC-32"):
        read_rows(ArraySpec(file))
