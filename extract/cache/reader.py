"""Layout and reader of the cache, one HDF5 file of clips and embeddings (docs/cache-format.md)."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar
from urllib.parse import unquote

import h5py
import numpy as np
import pandas as pd

from amr.common.workspace import find_cache
from amr.extract.cache.arrays import (
    Rows,
    check_sha256,
    data_sha256,
    num_texts,
    read_numbers,
    read_text,
    read_text_attribute,
    row_blocks,
    row_crc32,
)
from amr.extract.cache.damage import Finding, NotInCache, intact, open_file
from amr.extract.cache.seal import FACES, FIXED_COLUMNS, GROUPS, check_layout, check_seal, check_shapes

FORMAT = "amr-cache"
VERSION = 2
VERSIONS = (1, 2)  # that can be read
UNFINISHED = "row_crc32"  # group of checksums of the rows of unfinished embeddings
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

    @property
    def has_faces(self) -> bool:
        """Whether the encoder saw a face, where one was found, instead of whole frames."""
        return isinstance(self.preprocessing.get("face"), dict)


P = ParamSpec("P")
T = TypeVar("T")


def _through_door(read: Callable[Concatenate[Cache, P], T]) -> Callable[Concatenate[Cache, P], T]:
    """Make a method of an open cache raise one kind of error for whatever is damaged."""

    @functools.wraps(read)
    def checked(cache: Cache, *args: P.args, **kwargs: P.kwargs) -> T:
        if not cache._file:
            raise NotInCache(f"cache must be open, got {str(cache.path)!r} closed. Open it again.")
        with intact(cache.path):
            return read(cache, *args, **kwargs)

    return checked


@dataclass(frozen=True)
class Place:
    """Position of a dataset's rows in the file."""

    offset: int
    row_bytes: int
    dtype: np.dtype


class Cache:
    """Read-only view of a cache, to be used as a context manager.

    Whatever is damaged, every method and property raises `DamagedCache`, a RuntimeError.

    Example:
        with Cache.open(Path("caches/crema-d.h5")) as cache:
            audio = cache.embedding("audio")  # (clips, embed_dim) float32
    """

    def __init__(self, path: Path, file: h5py.File, version: int) -> None:
        self.path = path
        self.version = version
        self._file = file

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a cache.

        Raises:
            FileNotFoundError: The file does not exist.
            ValueError: The file is not a cache.
            RuntimeError: The file is in use, or damaged, or leads to other files.
        """
        path = Path(path)
        file = open_file(path)
        try:
            with intact(path):
                found = file.attrs.get("format"), file.attrs.get("version")
                if "format" in file.attrs:
                    found = read_text_attribute(file, "format"), found[1]
            if found[0] != FORMAT or found[1] not in VERSIONS:
                raise ValueError(
                    f"cache must have the format {FORMAT} {' or '.join(map(str, VERSIONS))}, got {found} in "
                    f"{str(path)!r}. Make one with amr extract or amr import."
                )
            version = int(found[1])
            with intact(path):
                check_layout(file, path.stat().st_size)
                if version > 1:
                    check_seal(file)
                check_shapes(file)
            return cls(path, file, version)
        except BaseException:
            file.close()
            raise

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
    @_through_door
    def dataset(self) -> str:
        """Name of the dataset."""
        return read_text_attribute(self._file, "dataset")

    @property
    @_through_door
    def manifest_sha256(self) -> str:
        """Checksum of the manifest that the clip table was written from."""
        return read_text_attribute(self._file, "manifest_sha256")

    @property
    @_through_door
    def shard(self) -> str:
        """Part of the manifest that a shard holds, such as "2/4"; "" for a cache of all of it."""
        return read_text_attribute(self._file, "shard") if "shard" in self._file.attrs else ""

    @property
    @_through_door
    def root(self) -> str:
        """Folder that clip paths are relative to; "" for imported embeddings."""
        return read_text_attribute(self._file, "root")

    @property
    @_through_door
    def complete(self) -> bool:
        """Whether every embedding is done for every clip."""
        return bool(self._file.attrs["complete"])

    @property
    @_through_door
    def created_by(self) -> str:
        """Program that made the cache, with its version."""
        return read_text_attribute(self._file, "created_by")

    @_through_door
    def table(self) -> pd.DataFrame:
        """Table with one row per clip, all text: id, path, split, group, then the manifest's other columns."""
        clips = self._file["clips"]
        columns = clips["columns"]
        data = {name: read_text(clips[name]) for name in FIXED_COLUMNS}
        data |= {unquote(name): read_text(columns[name]) for name in columns}
        return pd.DataFrame(data, dtype=str)

    @property
    @_through_door
    def num_clips(self) -> int:
        """Number of clips."""
        return num_texts(self._file["clips/id"])

    @property
    @_through_door
    def names(self) -> list[str]:
        """Names of the embeddings, in the order in which they were added: that of the options of their command."""
        return list(self._file["embeddings"])

    @property
    @_through_door
    def is_ordered(self) -> bool:
        """Whether the order of `names` means something: version 0.1 read the names in alphabetical order."""
        return bool(self._file["embeddings"].attrs.get("ordered", False))

    @_through_door
    def info(self, name: str) -> EmbeddingInfo:
        """Description of an embedding, and of how it was made."""
        data = self._embedding(name)
        text = functools.partial(read_text_attribute, data)
        return EmbeddingInfo(
            name=name,
            modality=text("modality"),
            encoder=text("encoder"),
            weights_sha256=text("weights_sha256"),
            preprocessing=json.loads(text("preprocessing")),
            dtype=text("dtype"),
            embed_dim=int(data.shape[-1]),
            max_steps=int(data.shape[1]) if data.ndim == 3 else None,
            random_weights=bool(data.attrs["random_weights"]),
            fingerprint=text("fingerprint"),
            code_version=text("code_version"),
        )

    def embedding(self, name: str, rows: slice | np.ndarray | None = None) -> np.ndarray:
        """Embeddings, `(clips, embed_dim)` or `(clips, steps, embed_dim)` float32, 0 if the clip has none.

        Args:
            name: Name of the embedding.
            rows: Rows of the clips to read, all by default.
        """
        return np.asarray(self.stored(name, rows), dtype=np.float32)

    def stored(self, name: str, rows: slice | np.ndarray | None = None) -> np.ndarray:
        """Embeddings as `embedding` gives them, in the type of the file: float16 stays float16."""
        if rows is None or isinstance(rows, slice):
            return self._values(name, rows or slice(None))
        # h5py needs increasing rows and reads them slowly: reading all and indexing is faster.
        return self._values(name, slice(None))[rows]

    @_through_door
    def present(self, name: str) -> np.ndarray:
        """Mask of the clips that have this modality and were embedded, `(clips,)`."""
        self._embedding(name)
        present = read_numbers(self._file["present"][name]).astype(bool)
        return present if self._is_sealed(name) else present & self.done(name)

    @_through_door
    def done(self, name: str) -> np.ndarray:
        """Mask of the clips that were tried, with or without success, `(clips,)`. All true in a complete cache."""
        self._embedding(name)
        return read_numbers(self._file["done"][name]).astype(bool)

    def without_values(self) -> dict[str, np.ndarray]:
        """Map from the fingerprint of each embedding to the clips that were tried without success, `(clips,)`."""
        return {self.info(name).fingerprint: self.done(name) & ~self.present(name) for name in self.names}

    @_through_door
    def num_steps(self, name: str) -> np.ndarray | None:
        """Number of filled steps of each clip, `(clips,)` int; None for an embedding without steps."""
        has_steps = self._embedding(name).ndim == 3
        return read_numbers(self._file["num_steps"][name]) if has_steps else None

    @_through_door
    def faces(self, name: str) -> np.ndarray | None:
        """Fraction of each clip's frames in which a face was found, `(clips,)` float32; None if none was looked for.

        Where it is 0, the embedding of a present clip is that of its whole frames.
        """
        self._embedding(name)
        return read_numbers(self._file[FACES][name]) if name in self._file.get(FACES, {}) else None

    def num_without_face(self, name: str) -> int:
        """Number of present clips in which no face was found, although one was looked for."""
        faces = self.faces(name)
        return 0 if faces is None else int((self.present(name) & (faces == 0)).sum())

    def blocks(self, name: str) -> Iterator[Rows]:
        """All rows of an embedding as stored, in blocks that fit into memory, each compared with its checksums."""
        done, present, num_steps, faces = self.done(name), self.present(name), self.num_steps(name), self.faces(name)
        with intact(self.path):
            data = self._embedding(name)
            checksums = self._file[UNFINISHED][name][:] if not self._is_sealed(name) and self.version > 1 else None
            digest = hashlib.sha256()
            for block in row_blocks(data.shape, data.dtype):
                values = np.ascontiguousarray(data[block])
                steps, found = (None if each is None else each[block] for each in (num_steps, faces))
                damaged = np.zeros(len(values), bool)
                if checksums is not None:
                    damaged = done[block] & (row_crc32(values, present[block], steps, found) != checksums[block])
                digest.update(values.data)
                yield Rows(block.start, values, present[block], done[block], steps, damaged, found)
            check_sha256(data, digest.hexdigest())

    def stored_blocks(self, name: str) -> Iterator[tuple[int, np.ndarray]]:
        """All rows of an embedding as `stored` gives them: the first row of each block, and the block."""
        if self.version > 1 and self._is_sealed(name):
            data = self._embedding(name)
            for block in row_blocks(data.shape, data.dtype):
                yield block.start, self.stored(name, block)
            return
        for rows in self.blocks(name):  # in version 1, all rows have one checksum
            if rows.damaged.any():
                with intact(self.path):
                    raise Finding(f"embeddings/{name}: checksum of {int(rows.damaged.sum())} rows differs")
            rows.values[~rows.done] = 0
            yield rows.start, rows.values

    @property
    @_through_door
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

    @_through_door
    def copy_embedding(self, name: str, file: h5py.File) -> bool:
        """Copy a finished embedding of the current version to another file as it is. Returns False if it is another."""
        if self.version != VERSION or not self._is_sealed(name):
            return False
        for _ in self.blocks(name):  # compared with its checksums: HDF5 copies without looking
            pass
        for group in (*GROUPS, FACES):
            if name in self._file.get(group, {}):
                self._file.copy(f"{group}/{name}", file.require_group(group), name)
        return True

    @_through_door
    def places(self, names: list[str]) -> dict[str, Place]:
        """Positions of the rows of unfinished embeddings in the file, for writing them without HDF5."""
        found = {}
        for name in names:
            for group in (*GROUPS, FACES, UNFINISHED):
                if group in self._file and name in self._file[group] and not self._is_sealed(name):
                    data = self._file[group][name]
                    row_bytes = data.dtype.itemsize * int(np.prod(data.shape[1:], dtype=int))
                    offset = int(data.id.get_offset() or 0)  # none without rows
                    found[f"{group}/{name}"] = Place(offset, row_bytes, data.dtype)
        return found

    def _embedding(self, name: str) -> h5py.Dataset:
        if name not in self.names:
            raise NotInCache(f"embedding must be one of {', '.join(self.names)}, got {name!r}. See amr inspect.")
        return self._file["embeddings"][name]

    def _is_sealed(self, name: str) -> bool:
        """Whether an embedding is finished and has checksums of everything."""
        return "sha256" in self._file["embeddings"][name].attrs

    @_through_door
    def _values(self, name: str, rows: slice) -> np.ndarray:
        data = self._embedding(name)
        if not self._is_sealed(name):
            values = np.empty(data.shape, data.dtype)
            for start, block in self.stored_blocks(name):
                values[start : start + len(block)] = block
            return values[rows]
        values = data[rows]
        if self.version == 1:
            if len(values) == len(data):
                check_sha256(data, hashlib.sha256(np.ascontiguousarray(values).data).hexdigest())
        elif self._has_blank_chunk(data, values, self.present(name)[rows], rows):
            check_sha256(data, data_sha256(data))
        return np.asarray(values)

    @staticmethod
    def _has_blank_chunk(data: h5py.Dataset, values: np.ndarray, present: np.ndarray, rows: slice) -> bool:
        """Whether a chunk with a present clip is all zero: lost, or overwritten by zeros, which Fletcher32 passes."""
        first = rows.indices(len(data))[0]
        size = data.chunks[0] if data.chunks else len(data)
        for start in range(-(first % size), len(values), size):
            block = slice(max(start, 0), start + size)
            if not values[block][0].any() and present[block].any() and not values[block].any():
                return True
        return False


def open_cache(cache: str | Path) -> Cache:
    """Open a cache by its path, or by its name in the workspace's caches/.

    >>> with open_cache("grid") as cache:  # doctest: +SKIP
    ...     audio, clips = cache.embedding("audio"), cache.table()

    Raises:
        FileNotFoundError: There is no such cache.
        ValueError: The file is not a cache.
    """
    return Cache.open(find_cache(str(cache), "cache"))
