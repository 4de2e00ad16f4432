"""Arrays of .npy and .npz files. Pickled objects are refused: reading them could run code."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from amr.extract.arrays.keys import select
from amr.extract.arrays.rows import ArraySpec, Expected, Rows

_NPY, _ZIP, _PICKLE = b"\x93NUMPY", b"PK", b"\x80"


def read_numpy(spec: ArraySpec, expected: Expected) -> Rows:
    """Read an array of a .npy or .npz file, whichever the content is."""
    start = _first_bytes(spec.path)
    if start.startswith(_ZIP):
        try:
            with np.load(spec.path, allow_pickle=False) as arrays:
                return select(spec, _Members(spec.path, arrays), np.asarray, expected)
        except zipfile.BadZipFile as error:
            raise OSError(f"a damaged archive: {error}") from error
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
    try:
        return Rows(np.load(spec.path, allow_pickle=False))
    except ValueError as error:
        raise _refused(spec.path.name, spec.path.stem, error) from error


class _Members(Mapping[str, Any]):
    """Arrays of a .npz file by name, each read on access."""

    def __init__(self, path: Path, arrays: Any) -> None:
        self._path = path
        self._arrays = arrays

    def __getitem__(self, key: str) -> np.ndarray:
        try:
            return np.asarray(self._arrays[key])
        except ValueError as error:
            raise _refused(f"{self._path.name}:{key}", self._path.stem, error) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays.files)

    def __len__(self) -> int:
        return len(self._arrays.files)

    def __contains__(self, key: object) -> bool:
        return key in self._arrays.files


def _refused(name: str, stem: str, error: ValueError) -> Exception:
    if "allow_pickle" not in str(error):
        return OSError(f"a damaged array: {error}")
    return ValueError(
        f"{name} must be a readable array of numbers or text, got Python objects, such as a dict or lists of different "
        f"lengths. Save text as np.array(x, dtype=str), and the arrays of a dict with np.savez('{stem}.npz', **arrays)."
    )


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(8)
