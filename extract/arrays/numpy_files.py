"""Arrays of .npy and .npz files. Pickled objects are refused: reading them could run code."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from amr.common.files.memory import check_memory
from amr.extract.arrays.keys import select
from amr.extract.arrays.rows import ArraySpec, Expected, Rows

_NPY, _ZIP, _PICKLE = b"\x93NUMPY", b"PK", b"\x80"


def read_numpy(spec: ArraySpec, expected: Expected) -> Rows:
    """Read an array of a .npy or .npz file, whichever the content is."""
    with spec.path.open("rb") as file:
        start = file.read(8)
    if start.startswith(_ZIP):
        with zipfile.ZipFile(spec.path) as archive:
            return select(spec, _Members(spec.path, archive), np.asarray, expected)
    if spec.keys:
        raise ValueError(
            f"{spec.path.name} must be given without a key, got {'+'.join(spec.keys)!r}. Pass {spec.path.name}."
        )
    if not start.startswith(_NPY):
        content = "a pickle of Python objects" if start.startswith(_PICKLE) else "no header of np.save (raw numbers?)"
        advice = (
            "Save its arrays with np.save"
            if start.startswith(_PICKLE)
            else "Read raw numbers with np.fromfile, reshape them to one row per clip, and save that with np.save"
        )
        raise ValueError(f"{spec.path.name} must be a readable .npy file, got {content}. {advice}.")
    with spec.path.open("rb") as file:
        return Rows(_read_array(file, spec.path.stat().st_size, spec.path.name, spec.path.stem))


class _Members(Mapping[str, Any]):
    """Arrays of a .npz file by name, each read on access."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path = path
        self._archive = archive
        arrays = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        self._members = {info.filename.removesuffix(".npy"): info for info in arrays}
        if not arrays:
            first = next(iter(archive.namelist()), "nothing")
            raise ValueError(
                f"{path.name} must hold arrays of np.savez, got {first!r}. Give a file of torch.save the suffix .pt."
            )

    def __getitem__(self, key: str) -> np.ndarray:
        info = self._members[key]
        place = f"{self._path.name}:{key}"
        with self._archive.open(info) as file:
            array = _read_array(file, info.file_size, place, self._path.stem)
            while file.read(2**20):  # to the end, where the archive's checksum is compared
                pass
            return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


def _read_array(file: IO[bytes], num_bytes: int, place: str, stem: str) -> np.ndarray:
    """Array of a .npy file, whose header must agree with the file's size before anything is allocated."""
    version = npy.read_magic(file)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError(
            f"{place} must be a readable array of numbers or text, got Python objects, such as a dict or lists of "
            f"different lengths. Save text as np.array(x, dtype=str), and the arrays of a dict with "
            f"np.savez('{stem}.npz', **arrays)."
        )
    needed = dtype.itemsize
    for length in shape:
        needed *= length
    if min(shape, default=0) < 0 or needed > num_bytes - file.tell():
        raise OSError(f"an array of shape {shape} and type {dtype} that ends before its last row")
    check_memory(needed, place, "Save it in several files, or in float16.")
    file.seek(0)
    return np.asarray(npy.read_array(file, allow_pickle=False))
