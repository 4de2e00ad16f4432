"""Arrays from files of embeddings and labels, given as `FILE[:KEY[+KEY...]][:N]`."""

from __future__ import annotations

import csv
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from amr.common.registry import unknown


@dataclass(frozen=True)
class ArraySpec:
    """The arrays of a file to read, and the rows of them.

    Attributes:
        path: Path of the file.
        keys: Arrays, variables or columns, whose rows are concatenated; empty for the only one.
        num_rows: Number of first rows to read, None for all.
    """

    path: Path
    keys: tuple[str, ...] = ()
    num_rows: int | None = None


def parse_array_spec(text: str, option: str) -> ArraySpec:
    """Parse `FILE[:KEY[+KEY...]][:N]`. A colon belongs to the file's name if that file exists.

    Raises:
        FileNotFoundError: The file does not exist.
    """
    if Path(text).is_file():
        return ArraySpec(Path(text))
    for num_colons in (1, 2):
        file, *rest = text.rsplit(":", num_colons)
        if len(rest) == num_colons and Path(file).is_file():
            num_rows = int(rest[-1]) if re.fullmatch(r"[0-9]+", rest[-1]) else None
            if num_colons == 2 and num_rows is None:
                break
            if num_colons == 1 and num_rows is None:
                return ArraySpec(Path(file), tuple(rest[0].split("+")))
            return ArraySpec(Path(file), tuple(rest[0].split("+")) if num_colons == 2 else (), num_rows)
    raise FileNotFoundError(
        f"{option} must name an existing file, got {text!r}. Pass FILE, FILE:KEY or FILE:N (its first N rows)."
    )


def read_array(spec: ArraySpec) -> np.ndarray:
    """Read the rows of a file, as numbers or text as stored; text files give text.

    Raises:
        ValueError: The file has an unknown type, is damaged, or lacks the key.
    """
    suffix = spec.path.suffix.lower()
    if suffix not in _READERS:
        raise ValueError(f"file must be one of {', '.join(_READERS)}, got {str(spec.path)!r}. Save it as .npy or .csv.")
    try:
        array = _READERS[suffix](spec)
    except (OSError, EOFError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{spec.path.name} must be a readable {suffix} file, got {type(error).__name__}: {error}. Save it again."
        ) from error
    if array.ndim == 0:
        raise ValueError(f"{spec.path.name} must hold one row per clip, got a single value. Name another key.")
    if spec.num_rows is not None and spec.num_rows > len(array):
        raise ValueError(
            f"{spec.path.name}:{spec.num_rows} must have that many rows, got {len(array)}. "
            f"Pass {spec.path.name} for all of them."
        )
    return array[: spec.num_rows]


def _choose(spec: ArraySpec, arrays: Mapping[str, Any], read: Callable[[Any], np.ndarray]) -> np.ndarray:
    """Concatenate the rows of the keys' arrays; without keys, read the only array."""
    keys = spec.keys
    if not keys and spec.num_rows is not None and str(spec.num_rows) in arrays:
        raise ValueError(
            f"{spec.path.name}:{spec.num_rows} must be unambiguous, got a key and a number of rows. "
            f"Pass {spec.path.name}:{spec.num_rows}:N with N rows of that key."
        )
    if not keys:
        if len(arrays) != 1:
            raise ValueError(
                f"{spec.path.name} must be given with a key, since it holds {', '.join(arrays) or 'nothing'}. "
                f"Pass {spec.path.name}:{next(iter(arrays), 'KEY')}."
            )
        keys = tuple(arrays)
    selected = []
    for key in keys:
        if key not in arrays:
            raise unknown(f"key of {spec.path.name}", key, arrays)
        selected.append(read(arrays[key]))
    if len({each.shape[1:] for each in selected}) > 1:
        shapes = " and ".join(str(each.shape) for each in selected)
        raise ValueError(
            f"{'+'.join(keys)} of {spec.path.name} must have rows of one shape, got {shapes}. Name keys of one view."
        )
    return selected[0] if len(selected) == 1 else np.concatenate(selected)


def _read_npy(spec: ArraySpec) -> np.ndarray:
    if spec.keys:
        raise ValueError(
            f"{spec.path.name} must be given without a key, got {'+'.join(spec.keys)!r}. Pass {spec.path.name}."
        )
    return np.asarray(_load_numpy(spec.path))


def _read_npz(spec: ArraySpec) -> np.ndarray:
    with _load_numpy(spec.path) as arrays:
        return _choose(spec, arrays, np.asarray)


def _load_numpy(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise OSError(f"it holds no plain array: {error}") from error


def _read_mat(spec: ArraySpec) -> np.ndarray:
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    try:
        names = [name for name, _, _ in whosmat(spec.path)]
    except NotImplementedError:  # version 7.3 is HDF5, with MATLAB's axes in reverse order
        with h5py.File(spec.path, "r") as file:
            variables = {name: file[name] for name in file if isinstance(file[name], h5py.Dataset)}
            return _choose(spec, variables, lambda variable: np.asarray(variable[()]).T)
    except (MatReadError, TypeError, ValueError) as error:
        raise OSError(str(error)) from error
    wanted = [key for key in spec.keys if key in names] or names
    contents = loadmat(spec.path, variable_names=wanted)
    return _choose(spec, {name: contents.get(name) for name in names}, _unwrap_cells)


def _unwrap_cells(array: np.ndarray) -> np.ndarray:
    """Unwrap a MATLAB cell array of text."""
    if array.dtype != object:
        return array
    return np.array([np.asarray(cell).ravel()[0] if np.size(cell) else "" for cell in array.ravel()])


def _read_csv(spec: ArraySpec) -> np.ndarray:
    with spec.path.open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        raise OSError("rows of different lengths" if rows else "no rows")
    if spec.keys or _is_header(rows[0]):
        header, *rows = rows
        if "" in header and not spec.keys:
            raise OSError("a column without a name, such as the index that pandas writes (index=False leaves it out)")
        table = {name: np.array([row[i] for row in rows], dtype=object) for i, name in enumerate(header)}
        if spec.keys:
            return _choose(spec, table, np.asarray)
    return np.array(rows, dtype=object).reshape(len(rows), -1)


def _read_parquet(spec: ArraySpec) -> np.ndarray:
    try:
        table = pd.read_parquet(spec.path)
    except ValueError as error:  # pyarrow's errors are among them
        raise OSError(str(error)) from error
    columns = {str(name): table[name] for name in table}
    if spec.keys or len(columns) == 1:
        return _choose(spec, columns, _unwrap_lists)
    return table.to_numpy()


def _unwrap_lists(column: pd.Series) -> np.ndarray:
    """Array of a column of values, or of one vector per row."""
    values = column.to_numpy()
    if values.dtype == object and len(values) and isinstance(values[0], np.ndarray | list):
        return np.stack([np.asarray(value) for value in values])
    return values


def _read_pt(spec: ArraySpec) -> np.ndarray:
    import torch

    try:
        content = torch.load(spec.path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise OSError("it holds more than tensors, or torch.save did not write it") from error
    tensors = content if isinstance(content, Mapping) else {"tensor": content}
    return _choose(spec, {str(key): value for key, value in tensors.items()}, _from_tensor)


def _from_tensor(tensor: Any) -> np.ndarray:
    import torch

    if not isinstance(tensor, torch.Tensor):
        return np.asarray(tensor)
    tensor = tensor.detach()
    return np.asarray(tensor.float() if tensor.dtype == torch.bfloat16 else tensor)


def _read_txt(spec: ArraySpec) -> np.ndarray:
    lines = spec.path.read_text(encoding="utf-8-sig").splitlines()
    return np.array(lines, dtype=object)


def _is_header(row: list[str]) -> bool:
    """Whether a first row is a header: not all numbers, or 0, 1, 2, ..., as pandas names columns."""
    numbered = [str(i) for i in range(len(row))]
    return (len(row) > 1 and row == numbered) or not all(_is_number(value) for value in row)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


_READERS: dict[str, Callable[[ArraySpec], np.ndarray]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".mat": _read_mat,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".pt": _read_pt,
    ".txt": _read_txt,
}
