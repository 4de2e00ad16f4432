"""Variables of .mat files: numbers, text, cell arrays and sparse matrices, of version 7.3 (HDF5) and before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np

from amr.extract.arrays.keys import select
from amr.extract.arrays.rows import ArraySpec, Expected, Rows
from amr.extract.arrays.stack import stack_clips


def read_matlab(spec: ArraySpec, expected: Expected) -> Rows:
    """Read a variable, or the rows of several."""
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    try:
        names = [name for name, _, _ in whosmat(spec.path)]
    except NotImplementedError:
        with h5py.File(spec.path, "r") as file:
            variables = {name: file[name] for name in file if not name.startswith("#")}
            return select(spec, variables, lambda node: _from_hdf5(node, file, spec.path.name), expected)
    except (MatReadError, TypeError, ValueError) as error:
        raise OSError(str(error)) from error
    wanted = list(spec.keys) if spec.keys and set(spec.keys) <= set(names) else names
    contents = loadmat(spec.path, variable_names=wanted)
    variables = {name: contents.get(name) for name in names}
    return select(spec, variables, lambda value: _plain(value, spec.path.name), expected)


def _plain(value: Any, place: str) -> np.ndarray:
    """Variable of scipy as an array of numbers or text."""
    if hasattr(value, "toarray"):
        return np.asarray(value.toarray())
    array = np.asarray(value)
    if array.dtype.names is not None:
        raise _not_an_array(place, "a struct or an object")
    if array.dtype == object:
        return _stack_cells([_plain(cell, place) for cell in array.ravel()], place)
    return np.char.rstrip(array) if array.dtype.kind == "U" else array  # MATLAB pads the rows of text


def _from_hdf5(node: h5py.Dataset | h5py.Group, file: h5py.File, place: str) -> np.ndarray:
    """Variable of version 7.3 as an array of numbers or text. Its axes are in reverse order."""
    kind = _matlab_class(node)
    if "MATLAB_sparse" in node.attrs:
        return _sparse(node)
    if isinstance(node, h5py.Group) or "MATLAB_object_decode" in node.attrs:
        raise _not_an_array(place, "a struct" if isinstance(node, h5py.Group) else f"an object of class {kind}")
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


def _sparse(node: h5py.Group) -> np.ndarray:
    from scipy.sparse import csc_matrix

    num_rows, columns = int(node.attrs["MATLAB_sparse"]), node["jc"][()]
    values = node["data"][()] if "data" in node else np.zeros(0)
    rows = node["ir"][()] if "ir" in node else np.zeros(0, dtype=int)
    return csc_matrix((values, rows, columns), shape=(num_rows, len(columns) - 1)).toarray()


def _stack_cells(cells: Sequence[np.ndarray], place: str) -> np.ndarray:
    """Array of a cell array: text, numbers, or one vector or sequence per cell. An empty cell is "" or NaN."""
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
