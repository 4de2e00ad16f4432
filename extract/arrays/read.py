"""Reading of any kind of file, by its suffix."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from importlib import import_module

import numpy as np

from amr.common.files.reading import reason_of
from amr.extract.arrays.apart import apart
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

# Libraries whose code for a damaged file has crashed, run endlessly or taken memory without bounds.
_CRASHING: dict[str, tuple[str, ...]] = {".mat": ("scipy.io", "h5py"), ".parquet": ("pyarrow.parquet",)}
# All errors of this package read like this (CONTRIBUTING.md).
_OWN_SENTENCE = re.compile(r" must .*, got ", re.DOTALL)


def read_array(spec: ArraySpec, expected: Expected | None = None) -> np.ndarray:
    """Read the rows of a file, as numbers or text as stored; text files give text.

    Raises:
        ValueError: The file has an unknown type, is damaged, or lacks the key.
    """
    return np.asarray(read_rows(spec, expected).values)


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
    suffix = spec.path.suffix.lower()
    if spec.path.is_dir():
        rows = _guarded("folder", _read_folder, spec, expected)
    elif suffix in _READERS:
        rows = _guarded(f"{suffix} file", _apart if suffix in _CRASHING else _READERS[suffix], spec, expected)
    else:
        raise ValueError(f"file must be one of {', '.join(_READERS)}, got {str(spec.path)!r}. Save it as .npy or .csv.")
    if rows.values.ndim == 0:
        advice = spec.other("with one row per clip")
        raise ValueError(f"{spec.path.name} must hold one row per clip, got a single value. {advice}")
    if spec.num_rows is not None and spec.num_rows > len(rows):
        raise ValueError(
            f"{spec.path.name}:{spec.num_rows} must have that many rows, got {len(rows)}. "
            f"Pass {spec.path.name} for all of them."
        )
    if spec.num_rows is None:
        return rows
    ids = None if rows.ids is None else rows.ids[: spec.num_rows]
    return replace(rows, values=rows.values[: spec.num_rows], ids=ids)


def _read_folder(spec: ArraySpec, expected: Expected) -> Rows:
    suffixes = {path.suffix.lower() for path in spec.path.iterdir()}
    readers = {suffix: partial(_guarded, f"{suffix} file", reader) for suffix, reader in _READERS.items()}
    if suffixes & _CRASHING.keys():
        return _apart(spec, expected, lambda spec, _: read_folder(spec, readers))
    return read_folder(spec, readers)


def _apart(spec: ArraySpec, expected: Expected, read: Reader | None = None) -> Rows:
    """Read a file, or a folder of files, in a separate process."""
    suffix = spec.path.suffix.lower()
    for library in _CRASHING.get(suffix, ()):
        import_module(library)  # once, rather than in each process
    files = spec.path.iterdir() if spec.path.is_dir() else [spec.path]
    num_bytes = sum(file.stat().st_size for file in files)
    return apart(lambda: (read or _READERS[suffix])(spec, expected), num_bytes)


def _guarded(kind: str, read: Reader, spec: ArraySpec, expected: Expected) -> Rows:
    """Read a file, or a folder of files; whatever a library raises becomes one sentence with the way out."""
    name = spec.path.name
    suffix = spec.path.suffix.lower()
    if not spec.path.is_dir():
        if not spec.path.is_file():
            raise ValueError(f"{name} must be a file, got a pipe or a device. Save its content to a file.")
        # a text without lines is read as such
        if suffix != ".txt" and not spec.path.stat().st_size:
            raise ValueError(f"{name} must have rows, got an empty file. Save it again.")
    try:
        return read(spec, expected)
    except MemoryError as error:
        raise ValueError(
            f"{name} must fit into memory, got content that does not, or a damaged file. Save it again, or in parts."
        ) from error
    except Exception as error:  # each library has its own errors for a damaged file
        if isinstance(error, ValueError) and _OWN_SENTENCE.search(str(error)):
            raise
        if isinstance(error, BlockingIOError) or "unable to lock file" in str(error):
            raise ValueError(
                f"{name} must not be open for writing elsewhere, got a locked file. Close it there."
            ) from error
        problem = (isinstance(error, OSError) and error.strerror) or reason_of(error)
        raise ValueError(f"{name} must be a readable {kind}, got {problem}. Save it again.") from error
