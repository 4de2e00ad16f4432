"""Reading of any kind of file, by its suffix."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from amr.extract.arrays.folder import Reader, read_folder
from amr.extract.arrays.matlab import read_matlab
from amr.extract.arrays.numpy_files import read_numpy
from amr.extract.arrays.rows import ArraySpec, Expected, Rows
from amr.extract.arrays.tables import read_csv, read_parquet, read_text
from amr.extract.arrays.torch_files import read_torch

_READERS: dict[str, Reader] = {
    ".npy": read_numpy,
    ".npz": read_numpy,
    ".mat": read_matlab,
    ".csv": read_csv,
    ".parquet": read_parquet,
    ".pt": read_torch,
    ".txt": read_text,
}


def read_array(spec: ArraySpec) -> np.ndarray:
    """Read the rows of a file, as numbers or text as stored; text files give text.

    Raises:
        ValueError: The file has an unknown type, is damaged, or lacks the key.
    """
    return read_rows(spec).values


def read_rows(spec: ArraySpec, expected: Expected | None = None) -> Rows:
    """Read the rows of a file or a folder, with the ids that it gives them.

    Args:
        spec: File, keys and number of rows.
        expected: The caller's knowledge of the rows.

    Raises:
        ValueError: The file has an unknown type, is damaged, or lacks the key.
    """
    expected = expected or Expected()
    if spec.num_rows is not None:
        expected = replace(expected, num_rows=spec.num_rows)
    if spec.path.is_dir():
        readers = {suffix: partial(_guarded, f"{suffix} file", reader) for suffix, reader in _READERS.items()}
        rows = _guarded("folder", lambda spec, _: read_folder(spec, readers), spec, expected)
    else:
        suffix = spec.path.suffix.lower()
        if suffix not in _READERS:
            raise ValueError(
                f"file must be one of {', '.join(_READERS)}, got {str(spec.path)!r}. Save it as .npy or .csv."
            )
        rows = _guarded(f"{suffix} file", _READERS[suffix], spec, expected)
    if rows.values.ndim == 0:
        raise ValueError(f"{spec.path.name} must hold one row per clip, got a single value. Name another key.")
    if spec.num_rows is not None and spec.num_rows > len(rows):
        raise ValueError(
            f"{spec.path.name}:{spec.num_rows} must have that many rows, got {len(rows)}. "
            f"Pass {spec.path.name} for all of them."
        )
    ids = None if rows.ids is None else rows.ids[: spec.num_rows]
    return replace(rows, values=rows.values[: spec.num_rows], ids=ids)


def _guarded(kind: str, read: Reader, spec: ArraySpec, expected: Expected) -> Rows:
    suffix = spec.path.suffix.lower()
    # a text without lines is read as such
    if suffix != ".txt" and spec.path.is_file() and not spec.path.stat().st_size:
        raise ValueError(f"{spec.path.name} must have rows, got an empty file. Save it again.")
    try:
        return read(spec, expected)
    except (OSError, EOFError, pd.errors.ParserError) as error:
        if isinstance(error, BlockingIOError) or "unable to lock file" in str(error):
            raise ValueError(
                f"{spec.path.name} must not be open for writing elsewhere, got a locked file. Close it there."
            ) from error
        problem = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        raise ValueError(f"{spec.path.name} must be a readable {kind}, got {problem}. Save it again.") from error
