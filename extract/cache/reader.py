"""Layout and reader of the cache, one HDF5 file of clips and embeddings (docs/cache-format.md)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote

import h5py
import numpy as np
import pandas as pd

from amr.common.workspace import find_cache

FORMAT = "amr-cache"
VERSION = 1
FIXED_COLUMNS = ("id", "path", "split", "group")
FAILURE_COLUMNS = ("id", "modality", "reason")
CANNOT_PREPARE = "cannot be prepared for "  # start of a reason, before the name of the embedding
DTYPES = ("float32", "float16")
IMPORTED = "import:"  # start of the encoder of imported embeddings


@dataclass(frozen=True)
class EmbeddingInfo:
    """Description of one embedding of a cache, and of how it was made.

    Attributes:
        name: Name in the cache.
        modality: Modality of the media: "audio", "video", or any name for an imported embedding.
        encoder: Canonical spec of the encoder.
        weights_sha256: Checksum of the weights; "" if the encoder has none.
        preprocessing: All other settings that shape the embedding.
        dtype: Type on disk, "float32" or "float16".
        embed_dim: Length of one vector.
        max_steps: Maximum number of steps (vectors in time) of a clip; None if a clip is one vector.
        random_weights: Whether the weights are untrained.
        fingerprint: Checksum over clips and encoder (`amr.extract.cache.fingerprint`).
        code_version: Version of amr that made it.
    """

    name: str
    modality: str
    encoder: str
    weights_sha256: str
    preprocessing: dict[str, Any]
    dtype: str
    embed_dim: int
    max_steps: int | None = None
    random_weights: bool = False
    fingerprint: str = ""
    code_version: str = ""

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one clip's row: `(embed_dim,)` or `(steps, embed_dim)`."""
        return (self.embed_dim,) if self.max_steps is None else (self.max_steps, self.embed_dim)


class Cache:
    """Read-only view of a cache, to be used as a context manager.

    Example:
        with Cache.open(Path("caches/crema-d.h5")) as cache:
            audio = cache.embedding("audio")  # (clips, embed_dim) float32
    """

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path = path
        self._file = file

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a cache.

        Raises:
            FileNotFoundError: The file does not exist.
            ValueError: The file is not a cache.
            RuntimeError: The file is in use, or too damaged to open.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f"cache must be a file, got {str(path)!r}. Make one with amr extract or amr import."
            )
        try:
            file = h5py.File(path, "r")
        except OSError as error:
            check_unlocked(path, error)
            with path.open("rb") as content:
                is_hdf5 = content.read(8) == b"\x89HDF\r\n\x1a\n"
            if is_hdf5:
                raise RuntimeError(
                    f"cache {str(path)!r} must be intact, got a damaged file ({error}). "
                    "Extract or import it again with --overwrite."
                ) from error
            raise ValueError(
                f"cache must be an HDF5 file, got {str(path)!r}. Make one with amr extract or amr import."
            ) from error
        if file.attrs.get("format") != FORMAT or file.attrs.get("version") != VERSION:
            found = file.attrs.get("format"), file.attrs.get("version")
            file.close()
            raise ValueError(
                f"cache must have the format {FORMAT} {VERSION}, got {found} in {str(path)!r}. "
                "Make one with amr extract or amr import."
            )
        return cls(path, file)

    def close(self) -> None:
        """Close the file. Reading after that fails."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return str(self._file.attrs["dataset"])

    @property
    def manifest_sha256(self) -> str:
        """Checksum of the manifest that the clip table was written from."""
        return str(self._file.attrs["manifest_sha256"])

    @property
    def root(self) -> str:
        """Folder that clip paths are relative to; "" for imported embeddings."""
        return str(self._file.attrs["root"])

    @property
    def complete(self) -> bool:
        """Whether every embedding is done for every clip."""
        return bool(self._file.attrs["complete"])

    @property
    def created_by(self) -> str:
        """Program that made the cache, with its version."""
        return str(self._file.attrs["created_by"])

    def table(self) -> pd.DataFrame:
        """Table with one row per clip, all text: id, path, split, group, then the manifest's other columns."""
        clips = self._file["clips"]
        columns = clips["columns"]
        data = {name: read_text(clips[name]) for name in FIXED_COLUMNS}
        data |= {unquote(name): read_text(columns[name]) for name in columns}
        return pd.DataFrame(data, dtype=str)

    @property
    def num_clips(self) -> int:
        """Number of clips."""
        return int(self._file["clips/id"].shape[0])

    @property
    def names(self) -> list[str]:
        """Names of the embeddings, in the order in which they were added: that of the options of their command."""
        return list(self._file["embeddings"])

    @property
    def is_ordered(self) -> bool:
        """Whether the order of `names` means something: version 0.1 read the names in alphabetical order."""
        return bool(self._file["embeddings"].attrs.get("ordered", False))

    def info(self, name: str) -> EmbeddingInfo:
        """Description of an embedding, and of how it was made."""
        data = self._embedding(name)
        attrs = data.attrs
        return EmbeddingInfo(
            name=name,
            modality=str(attrs["modality"]),
            encoder=str(attrs["encoder"]),
            weights_sha256=str(attrs["weights_sha256"]),
            preprocessing=json.loads(attrs["preprocessing"]),
            dtype=str(attrs["dtype"]),
            embed_dim=int(data.shape[-1]),
            max_steps=int(data.shape[1]) if data.ndim == 3 else None,
            random_weights=bool(attrs["random_weights"]),
            fingerprint=str(attrs["fingerprint"]),
            code_version=str(attrs["code_version"]),
        )

    def embedding(self, name: str, rows: slice | np.ndarray | None = None) -> np.ndarray:
        """Embeddings, `(clips, embed_dim)` or `(clips, steps, embed_dim)` float32, 0 if the clip has none.

        Args:
            name: Name of the embedding.
            rows: Rows of the clips to read, all by default.
        """
        data = self._embedding(name)
        if rows is None or isinstance(rows, slice):
            return np.asarray(data[slice(None) if rows is None else rows], dtype=np.float32)
        # h5py needs increasing rows and reads them slowly: reading all and indexing is faster.
        return np.asarray(data[:][rows], dtype=np.float32)

    def present(self, name: str) -> np.ndarray:
        """Mask of the clips that have this modality and were embedded, `(clips,)`."""
        self._embedding(name)
        return np.asarray(self._file["present"][name][:], dtype=bool)

    def done(self, name: str) -> np.ndarray:
        """Mask of the clips that were tried, with or without success, `(clips,)`. All true in a complete cache."""
        self._embedding(name)
        return np.asarray(self._file["done"][name][:], dtype=bool)

    def done_flags(self) -> dict[str, np.ndarray]:
        """Map from the fingerprint of each embedding to its `done`."""
        return {self.info(name).fingerprint: self.done(name) for name in self.names}

    def num_steps(self, name: str) -> np.ndarray | None:
        """Number of filled steps of each clip, `(clips,)` int; None for an embedding without steps."""
        self._embedding(name)
        return np.asarray(self._file["num_steps"][name][:]) if name in self._file["num_steps"] else None

    @property
    def failures(self) -> pd.DataFrame:
        """Table of what could not be decoded or embedded: id, modality, reason. Written when an extraction ends."""
        group = self._file["failures"]
        return pd.DataFrame({name: read_text(group[name]) for name in FAILURE_COLUMNS}, dtype=str)

    def reasons(self, name: str) -> dict[str, str]:
        """Id of each clip whose media could not be decoded or embedded -> the reason."""
        failures = self.failures
        own = failures[failures["modality"] == self.info(name).modality]
        # several embeddings of one modality share its failures, but a reason with a name is of that one only
        others = tuple(start + f"{other}: " for other in self.names if other != name for start in ("", CANNOT_PREPARE))
        return {
            id_: reason for id_, reason in zip(own["id"], own["reason"], strict=True) if not reason.startswith(others)
        }

    def _embedding(self, name: str) -> h5py.Dataset:
        if name not in self._file["embeddings"]:
            raise ValueError(f"embedding must be one of {', '.join(self.names)}, got {name!r}. See amr inspect.")
        return self._file["embeddings"][name]


def check_unlocked(path: Path, error: OSError) -> None:
    """Raise another error if HDF5 could not open a file because it is locked, and not because it is damaged.

    Raises:
        RuntimeError: Another program has the file open for writing, or its file system has no locks.
    """
    if isinstance(error, BlockingIOError) or "unable to lock file" in str(error):
        raise RuntimeError(
            f"cache {str(path)!r} must not be open for writing in another program, got a locked file. Close it there. "
            "If no program has it open, its disk has no locks: set HDF5_USE_FILE_LOCKING=FALSE."
        ) from error


def open_cache(cache: str | Path) -> Cache:
    """Open a cache by its path, or by its name in the workspace's caches/.

    >>> with open_cache("grid") as cache:  # doctest: +SKIP
    ...     audio, clips = cache.embedding("audio"), cache.table()

    Raises:
        FileNotFoundError: There is no such cache.
        ValueError: The file is not a cache.
    """
    return Cache.open(find_cache(str(cache), "cache"))


def read_text(dataset: h5py.Dataset) -> np.ndarray:
    """Read a text column, `(rows,)` of str."""
    return np.asarray(dataset.asstr()[:], dtype=object)


def write_text(group: h5py.Group, name: str, values: Iterable[str]) -> None:
    """Write a text column with its checksum."""
    column = np.array([str(value) for value in values], dtype=object)
    dataset = group.create_dataset(name, data=column, dtype=h5py.string_dtype(), shape=column.shape)
    dataset.attrs["sha256"] = text_sha256(column)


def escape(column: str) -> str:
    """Escape a column name for HDF5, where "/" separates groups and "." is the group itself."""
    return "%2E" if column == "." else "".join(quote(c, safe="") if c in "/%" else c for c in column)


def text_sha256(values: Iterable[str]) -> str:
    """Checksum of a text column: its values in UTF-8, a zero byte after each."""
    digest = hashlib.sha256()
    for value in values:
        digest.update(str(value).encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()


def data_sha256(dataset: h5py.Dataset) -> str:
    """Checksum of a numeric dataset: its bytes in row order, as stored."""
    digest = hashlib.sha256()
    for rows in row_blocks(dataset):
        digest.update(np.ascontiguousarray(dataset[rows]).data)
    return digest.hexdigest()


def row_blocks(dataset: h5py.Dataset, bytes_at_once: int = 2**24) -> Iterator[slice]:
    """Slices over all rows of a dataset, in blocks that fit into memory."""
    row_bytes = max(1, dataset.nbytes // max(1, dataset.shape[0]))
    num_rows = max(1, bytes_at_once // row_bytes)
    for start in range(0, dataset.shape[0], num_rows):
        yield slice(start, min(start + num_rows, dataset.shape[0]))
