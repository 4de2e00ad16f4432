"""Text, numbers and attributes in an HDF5 file, with their checksums."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import quote

import h5py
import numpy as np

from amr.extract.cache.damage import Finding

CHUNK_BYTES = 2**20
BYTES_AT_ONCE = 2**24
MAX_FIXED_BYTES = 64  # of the longest text of a column of fixed length
FLOAT16_MAGNITUDE, FLOAT16_INFINITY = np.uint16(0x7FFF), np.uint16(0x7C00)  # NaN has more bits than infinity
ENCODING = ("utf-8", "surrogateescape")  # names of files may be no UTF-8


@dataclass(frozen=True)
class Rows:
    """Checked rows of an embedding, as stored.

    Attributes:
        start: Row of the first clip.
        values: Embeddings, `(rows, embed_dim)` or `(rows, steps, embed_dim)`.
        present: Mask of the clips that were embedded, `(rows,)` bool.
        done: Mask of the clips that were tried, `(rows,)` bool.
        num_steps: Number of filled steps, `(rows,)` int32; None for an embedding without steps.
        damaged: Mask of the clips that are done and whose checksum differs, `(rows,)` bool.
        faces: Fraction of the frames in which a face was found, `(rows,)` float32; None if none was looked for.
    """

    start: int
    values: np.ndarray
    present: np.ndarray
    done: np.ndarray
    num_steps: np.ndarray | None
    damaged: np.ndarray
    faces: np.ndarray | None = None


def escape(column: str) -> str:
    """Escape a column name for HDF5, where "/" separates groups and "." is the group itself."""
    return "%2E" if column == "." else "".join(quote(c, safe="") if c in "/%" else c for c in column)


def write_attributes(node: h5py.Group | h5py.Dataset, **values: str | bool | int) -> None:
    """Write attributes. Text has a fixed length: a damaged heap of texts can make HDF5 read for ever."""
    for name, value in values.items():
        if isinstance(value, str):
            encoded = value.encode(*ENCODING)
            node.attrs.create(name, encoded, dtype=h5py.string_dtype("utf-8", max(1, len(encoded))))
        else:
            node.attrs[name] = value


def read_text_attribute(node: h5py.Group | h5py.Dataset, name: str) -> str:
    """Read a text attribute, of fixed length or, in version 1, of variable length."""
    value = node.attrs[name]
    if not isinstance(value, str | bytes):
        raise Finding(f"attribute {name} is no text")
    return value.decode(*ENCODING) if isinstance(value, bytes) else value


def write_text(group: h5py.Group, name: str, values: Iterable[str]) -> None:
    """Write a text column, `(rows,)`, with its checksum.

    Short texts have a fixed length. Longer ones are one after the other, with offsets, so that one long text does not
    make every row as long.
    """
    texts = [str(value) for value in values]
    joined = "".join([f"{text}\0" for text in texts]).encode(*ENCODING)
    encoded = joined.split(b"\0")[:-1]
    if len(encoded) > len(texts):
        row = next(row for row, text in enumerate(texts) if "\0" in text)
        raise ValueError(f"{name} must be text without the character NUL, got it in row {row + 1}. Remove it.")
    longest = max(map(len, encoded), default=0)
    if longest <= MAX_FIXED_BYTES:
        node = _create(group, name, (len(encoded),), h5py.string_dtype("utf-8", max(1, longest)))
        if encoded:
            node[...] = np.array(encoded, dtype=node.dtype)
    else:
        node = group.create_group(name)
        offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        for part, numbers in (("bytes", np.frombuffer(b"".join(encoded), np.uint8)), ("offsets", offsets)):
            _create(node, part, numbers.shape, numbers.dtype)[...] = numbers
    write_attributes(node, sha256=hashlib.sha256(joined).hexdigest())


def read_text(node: h5py.Dataset | h5py.Group) -> np.ndarray:
    """Read a text column, `(rows,)` of str, and check it against its checksum."""
    joined = _joined(_read_bytes(node))
    if hashlib.sha256(joined).hexdigest() != read_text_attribute(node, "sha256"):
        raise Finding(f"{_shown(node)}: checksum differs, the text was changed or damaged")
    return np.array(joined.decode(*ENCODING).split("\0")[:-1], dtype=object)


def num_texts(node: h5py.Dataset | h5py.Group) -> int:
    """Number of rows of a text column."""
    return int(node["offsets"].shape[0] - 1 if isinstance(node, h5py.Group) else node.shape[0])


def write_numbers(
    group: h5py.Group, name: str, shape: tuple[int, ...], dtype: np.dtype, blocks: Iterable[np.ndarray]
) -> None:
    """Write rows, block by block, with HDF5's checksum of each chunk and one of everything."""
    data = _create(group, name, shape, dtype)
    digest, start = hashlib.sha256(), 0
    for block in blocks:
        values = np.ascontiguousarray(block, dtype=dtype)
        data[start : start + len(values)] = values
        digest.update(values.data)
        start += len(values)
    write_attributes(data, sha256=digest.hexdigest())


def read_numbers(data: h5py.Dataset) -> np.ndarray:
    """Read numbers that are small enough to compare with the checksum of everything, if there is one yet."""
    values = np.asarray(data[...])
    check_sha256(data, hashlib.sha256(np.ascontiguousarray(values).data).hexdigest())
    if values.dtype == bool and values.size and values.view(np.uint8).max() > 1:
        raise Finding(f"{_shown(data)}: values are neither true nor false")
    return values


def check_sha256(data: h5py.Dataset, found: str) -> None:
    """Compare the checksum of a dataset with the one that was written, if it is finished."""
    if "sha256" in data.attrs and read_text_attribute(data, "sha256") != found:
        raise Finding(f"{_shown(data)}: checksum differs, the data was changed or damaged")


def data_sha256(data: h5py.Dataset) -> str:
    """Checksum of a numeric dataset: its bytes in row order, as stored."""
    digest = hashlib.sha256()
    for rows in row_blocks(data.shape, data.dtype):
        digest.update(np.ascontiguousarray(data[rows]).data)
    return digest.hexdigest()


def finite_rows(values: np.ndarray) -> np.ndarray:
    """Mask of the rows whose numbers are all finite, `(rows,)`."""
    finite = np.empty(len(values), bool)
    for rows in row_blocks(values.shape, values.dtype):
        flat = values[rows].reshape(rows.stop - rows.start, -1)
        if values.dtype == np.float16:  # NumPy's isfinite takes ten times as long
            finite[rows] = (flat.view(np.uint16) & FLOAT16_MAGNITUDE).max(axis=1, initial=0) < FLOAT16_INFINITY
        else:
            finite[rows] = np.isfinite(flat).all(axis=1)
    return finite


def row_crc32(
    values: np.ndarray, present: np.ndarray, num_steps: np.ndarray | None, faces: np.ndarray | None = None
) -> np.ndarray:
    """Checksum of each row of an unfinished embedding, `(rows,)` uint32: crc32 over present, num_steps, faces, values.

    Args:
        values: Embeddings as stored, `(rows, ...)`.
        present: Bool, `(rows,)`.
        num_steps: int32, `(rows,)`; None for an embedding without steps.
        faces: float32, `(rows,)`; None if no face was looked for.
    """
    heads: Sequence[bytes] = [present[row : row + 1].tobytes() for row in range(len(present))]
    for more in (num_steps, faces):
        if more is not None:
            heads = [head + more[row : row + 1].tobytes() for row, head in enumerate(heads)]
    rows = zip(heads, np.ascontiguousarray(values), strict=True)
    return np.array([zlib.crc32(value.data, zlib.crc32(head)) for head, value in rows], dtype=np.uint32)


def row_blocks(shape: Sequence[int], dtype: np.dtype) -> Iterator[slice]:
    """Slices over all rows, in blocks of whole chunks that fit into memory."""
    rows = _chunk_rows(shape, dtype)
    rows *= max(1, BYTES_AT_ONCE // max(1, rows * _row_bytes(shape, dtype)))
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))


def _create(group: h5py.Group, name: str, shape: tuple[int, ...], dtype: np.dtype) -> h5py.Dataset:
    """Create a dataset in chunks of whole rows with HDF5's own checksum, Fletcher32; without any if it is empty."""
    if 0 in shape:
        return group.create_dataset(name, shape, dtype)
    chunk = (min(shape[0], _chunk_rows(shape, dtype)), *shape[1:])
    return group.create_dataset(name, shape, dtype, chunks=chunk, fletcher32=True)


def _chunk_rows(shape: Sequence[int], dtype: np.dtype) -> int:
    return max(1, CHUNK_BYTES // max(1, _row_bytes(shape, dtype)))


def _row_bytes(shape: Sequence[int], dtype: np.dtype) -> int:
    return int(np.prod(shape[1:], dtype=object)) * dtype.itemsize


def _read_bytes(node: h5py.Dataset | h5py.Group) -> list[bytes]:
    if isinstance(node, h5py.Dataset):
        values: list[bytes] = node[:].tolist()
        return values
    data, offsets = node["bytes"][:].tobytes(), node["offsets"][:].tolist()
    return [data[start:stop] for start, stop in pairwise(offsets)]


def _joined(texts: Iterable[bytes]) -> bytes:
    """Texts with a zero byte after each, which the checksum of a column is over."""
    return b"\0".join([*texts, b""])


def _shown(node: h5py.Dataset | h5py.Group) -> str:
    return str(node.name).lstrip("/")
