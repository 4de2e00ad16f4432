"""Variables of .mat files: numbers, text, cell arrays and sparse matrices, of version 7.3 (HDF5) and before."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from amr.common.files.memory import check_memory
from amr.extract.arrays.keys import select
from amr.extract.arrays.rows import ArraySpec, Expected, Rows
from amr.extract.arrays.stack import ClipArrays, stack_clips

_MATRIX, _COMPRESSED = 14, 15  # miMATRIX and miCOMPRESSED of MATLAB's level 5 format


def read_matlab(spec: ArraySpec, expected: Expected) -> Rows:
    """Read a variable, or the rows of several."""
    from scipy.io import loadmat, whosmat

    try:
        names = [name for name, _, _ in whosmat(spec.path)]
    except NotImplementedError:
        with h5py.File(spec.path, "r") as file:
            variables = {name: file[name] for name in file if not name.startswith("#") and _is_inside(file, name)}
            return select(spec, variables, lambda node: _from_hdf5(node, file, spec.path.name), expected)
    wanted = list(spec.keys) if spec.keys and set(spec.keys) <= set(names) else names
    check_memory(_unpacked_bytes(spec.path), spec.path.name, "Save its variables in several files.")
    contents = loadmat(spec.path, variable_names=wanted)
    variables = {name: contents.get(name) for name in names}
    return select(spec, variables, lambda value: _plain(value, spec.path.name), expected)


def _is_inside(group: h5py.Group, name: str) -> bool:
    """Whether a name stands for something in this file, not for a link to another."""
    return isinstance(group.get(name, getlink=True), h5py.HardLink)


def _unpacked_bytes(path: Path) -> int:
    """Bytes of all variables of version 5, as the head of each says; compressed ones have theirs inside."""
    total = 0
    with path.open("rb") as file:
        head = file.read(128)
        order = "<" if head[126:128] == b"IM" else ">"
        while len(tag := file.read(8)) == 8:
            kind, num_bytes = struct.unpack(f"{order}II", tag)
            if kind not in (_MATRIX, _COMPRESSED):
                break  # version 4, or damaged
            start = file.tell()
            if kind == _COMPRESSED:
                inner = zlib.decompressobj().decompress(file.read(min(num_bytes, 1024)), 8)
                total += struct.unpack(f"{order}II", inner)[1] if len(inner) == 8 else 0
            else:
                total += min(num_bytes, path.stat().st_size)
            file.seek(start + num_bytes)
    return total


def _plain(value: Any, place: str) -> np.ndarray | ClipArrays:
    """Variable of scipy as an array of numbers or text."""
    if hasattr(value, "toarray"):
        return _dense(value, place)
    array = np.asarray(value)
    if array.dtype.names is not None:
        raise _not_an_array(place, "a struct or an object")
    if array.dtype == object:
        return _stack_cells([_plain(cell, place) for cell in array.ravel()], place)
    return np.char.rstrip(array) if array.dtype.kind == "U" else array  # MATLAB pads the rows of text


def _from_hdf5(node: h5py.Dataset | h5py.Group, file: h5py.File, place: str) -> np.ndarray | ClipArrays:
    """Variable of version 7.3 as an array of numbers or text. Its axes are in reverse order."""
    kind = _matlab_class(node)
    if "MATLAB_sparse" in node.attrs:
        return _sparse(node, place)
    if isinstance(node, h5py.Group) or "MATLAB_object_decode" in node.attrs:
        raise _not_an_array(place, "a struct" if isinstance(node, h5py.Group) else f"an object of class {kind}")
    _check_data(node, place)
    if node.attrs.get("MATLAB_empty"):
        shape = tuple(int(length) for length in np.ravel(node[()]))
        return np.zeros(shape if 0 in shape else (0, 0), dtype=str if kind in ("char", "cell") else float)
    if h5py.check_ref_dtype(node.dtype) is not None:
        cells = [_from_hdf5(file[ref], file, place) if ref else np.zeros((0, 0)) for ref in node[()].T.ravel()]
        return _stack_cells(cells, place)
    if h5py.check_string_dtype(node.dtype) is not None:
        return np.asarray(node.asstr()[()]).T
    if node.dtype.names is not None:
        raise _not_an_array(place, "complex numbers")
    values = np.asarray(node[()]).T
    if kind != "char":
        return values
    rows = np.atleast_2d(values).astype("<u2")
    return np.char.rstrip(np.array([row.tobytes().decode("utf-16-le", "replace") for row in rows]))


def _matlab_class(node: h5py.Dataset | h5py.Group) -> str:
    name = node.attrs.get("MATLAB_class", b"")
    return name.decode() if isinstance(name, bytes) else str(name)


def _check_data(node: h5py.Dataset, place: str) -> None:
    """Refuse data that lie in other files, and data that memory cannot hold once they are unpacked."""
    if node.is_virtual or node.external:
        raise ValueError(f"{place} must hold its own data, got a variable of another file. Save it again from MATLAB.")
    check_memory(node.size * node.dtype.itemsize, place, "Save fewer rows, or several variables.")


def _dense(matrix: Any, place: str) -> np.ndarray:
    """Dense array of a sparse matrix."""
    num_bytes = int(matrix.shape[0]) * int(matrix.shape[1]) * matrix.dtype.itemsize
    check_memory(num_bytes, f"{place}, made dense,", "Save fewer dimensions.")
    return np.asarray(matrix.toarray())


def _sparse(node: h5py.Group, place: str) -> np.ndarray:
    from scipy.sparse import csc_matrix

    for name in node:
        if not _is_inside(node, name):
            raise ValueError(f"{place} must hold its own data, got a link to another file. Save it again from MATLAB.")
        _check_data(node[name], place)
    num_rows, columns = int(node.attrs["MATLAB_sparse"]), node["jc"][()]
    values = node["data"][()] if "data" in node else np.zeros(0)
    rows = node["ir"][()] if "ir" in node else np.zeros(0, dtype=int)
    matrix = csc_matrix((values, rows, columns), shape=(num_rows, len(columns) - 1))
    matrix.check_format()  # its indices, which toarray trusts
    return _dense(matrix, place)


def _stack_cells(arrays: Sequence[np.ndarray | ClipArrays], place: str) -> np.ndarray | ClipArrays:
    """Array of a cell array: text, numbers, or one vector or sequence per cell. An empty cell is "" or NaN."""
    cells = [np.asarray(array) for array in arrays]
    filled = [cell for cell in cells if cell.size]
    if all(cell.dtype.kind in "US" for cell in filled):
        return np.array([str(cell.ravel()[0]) if cell.size else "" for cell in cells])
    if any(cell.dtype.kind in "US" for cell in filled):
        raise ValueError(f"{place} must have cells of one kind, got text and numbers in one variable. Separate them.")
    names = [f"cell {i + 1}" for i in range(len(cells))]
    if all(cell.size == 1 for cell in filled):
        return np.array([cell.item() if cell.size else np.nan for cell in cells])
    sequences = any(cell.ndim == 2 and min(cell.shape) > 1 for cell in filled)
    clips = [None if not cell.size else cell if sequences else cell.ravel() for cell in cells]
    return stack_clips(clips, names, place)


def _not_an_array(place: str, kind: str) -> ValueError:
    return ValueError(
        f"{place} must hold a matrix or a cell array, got {kind}. In MATLAB, save its numbers as a matrix and its "
        "text as cellstr(x), each as a variable of its own."
    )
