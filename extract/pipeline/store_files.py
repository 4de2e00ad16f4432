"""The files of a store.

    store.json               origin and shapes; failures, once it is done
    store.states             uint8 (clips, names): NO_MEDIA, TODO, ABSENT or PRESENT
    store.failures.jsonl     failures, until it is done
    SHA256SUMS               checksums of these files, once it is done
    <name>.npy               (rows, *shape) float16: output of the encoder's `prepare`; 0 if it could not be
                             prepared, NaN after the end of a waveform

A tensor has one row per clip whose media were on the disk when the store was made, in the order of the manifest. All
other clips are NO_MEDIA, so the states say which row belongs to which clip.

States are written after their tensors. So a kill costs one batch, which is then decoded again.
"""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np

from amr.common.files import CHECKSUMS, add_checksums, damaged_names, has_checksum, read_checked, replacing

VERSION = 2
NO_MEDIA, TODO, ABSENT, PRESENT = range(4)


@dataclass(frozen=True)
class StoreInfo:
    """Content of `store.json`.

    Attributes:
        fingerprint: Fingerprint of clips and inputs.
        num_clips: Number of clips of the manifest.
        shapes: Embedding name -> shape of its tensor, `(rows, *shape)`, in the order of the columns of the states.
        failures: Failures as in `Store`; complete once `done`.
        done: Whether every clip was tried.
    """

    fingerprint: str
    num_clips: int
    shapes: dict[str, tuple[int, ...]]
    failures: list[dict[str, str]]
    done: bool

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read a folder's `store.json`; None if the folder holds no store."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            content = json.loads(read_checked(folder / "store.json"))
            content["shapes"] = {name: tuple(shape) for name, shape in content["shapes"].items()}
            return cls(**content)
        return None

    def write(self, folder: Path) -> None:
        """Write store.json. Of a finished store, all other files have a checksum before it is."""
        (folder / CHECKSUMS).unlink(missing_ok=True)
        if self.done:
            add_checksums(folder, ["store.states", *(path.name for path in self.tensor_files(folder).values())])
        with replacing(folder / "store.json", durable=True) as partial:
            partial.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        if self.done:
            add_checksums(folder, ["store.json"])

    def create(self, folder: Path, exist: np.ndarray) -> None:
        """Create an empty store that replaces an existing one.

        Args:
            folder: Folder of the store.
            exist: Whether the media of each clip exist, bool `(clips, names)`.

        Raises:
            OSError: The disk has too little space.
        """
        states = folder / "store.states"
        states.unlink(missing_ok=True)
        self.write(folder)
        for name, path in self.tensor_files(folder).items():
            _allocate(path, self.shapes[name])
        with replacing(states, durable=True) as partial:  # last: a store without states is not continued
            partial.write_bytes(np.where(exist, TODO, NO_MEDIA).astype(np.uint8).tobytes())

    @property
    def num_bytes(self) -> int:
        """Size of all tensors in bytes."""
        return sum(2 * math.prod(shape) for shape in self.shapes.values())

    def tensor_files(self, folder: Path) -> dict[str, Path]:
        """Files of the tensors: embedding name -> file."""
        return {name: folder / f"{name}.npy" for name in self.shapes}

    def states(self, folder: Path) -> np.ndarray:
        """States, uint8 `(clips, names)`."""
        return RowFile(folder / "store.states", (self.num_clips, len(self.shapes)), np.uint8).read(0, self.num_clips)

    def tensors(self, folder: Path, *, writable: bool = False) -> dict[str, RowFile]:
        """Open the files of the tensors: embedding name -> file."""
        files = self.tensor_files(folder)
        return {name: RowFile(files[name], shape, np.float16, writable=writable) for name, shape in self.shapes.items()}

    def is_whole(self, folder: Path) -> bool:
        """Whether every file exists with the right size, and of a finished store, with the bytes that were written."""
        if self.done and damaged_names(folder):
            return False
        if self.done and has_checksum(folder / "store.states"):
            add_checksums(folder, ["store.json"])  # a kill may have come between
        try:
            if (folder / "store.states").stat().st_size != self.num_clips * len(self.shapes):
                return False
            num_rows = (self.states(folder) != NO_MEDIA).sum(0).tolist()
            # mapped for their shapes alone: no row is read
            arrays = {name: np.load(path, mmap_mode="r") for name, path in self.tensor_files(folder).items()}
        except (OSError, ValueError, EOFError, RuntimeError):
            return False
        return all(
            arrays[name].dtype == np.float16 and arrays[name].shape == shape and shape[0] == rows
            for (name, shape), rows in zip(self.shapes.items(), num_rows, strict=True)
        )


class RowFile:
    """Rows of an array's file, which stays open, so that they can be read even after it was removed.

    They are read and written, not mapped: SIGBUS would end a process whose mapped file is shortened meanwhile.

    Args:
        path: File of numpy, or of bytes alone.
        shape: Shape of the array, `(rows, *shape)`.
        dtype: Its type.
        writable: Whether rows will be written.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: type[np.generic], *, writable: bool = False) -> None:
        self.path, self.shape, self.dtype = path, shape, np.dtype(dtype)
        self._row_bytes = self.dtype.itemsize * math.prod(shape[1:])
        self._file = path.open("r+b" if writable else "rb", buffering=0)
        self._start = os.fstat(self._file.fileno()).st_size - shape[0] * self._row_bytes
        if path.suffix == ".npy":
            self._start = np.load(path, mmap_mode="r").offset

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop`, exclusive."""
        return self.take(np.arange(start, stop))

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Rows by number, `(n,)` to `(n, *shape)`. Neighbors are read at once.

        Raises:
            RuntimeError: The file is shorter than it was.
        """
        values = np.empty((len(rows), *self.shape[1:]), self.dtype)
        memory = values.reshape(-1).view(np.uint8).data
        cuts = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)] if len(rows) else []
        for first, end in pairwise(cuts):
            part = memory[first * self._row_bytes : end * self._row_bytes]
            place = self._start + int(rows[first]) * self._row_bytes
            while len(part):
                count = os.preadv(self._file.fileno(), [part], place)
                if count == 0:
                    raise RuntimeError(
                        f"{self.path} must have {self._start + self.shape[0] * self._row_bytes} bytes, got "
                        f"{os.fstat(self._file.fileno()).st_size}: something shortened it while it was read. "
                        "Give the same command again: it decodes the clips again and goes on."
                    )
                part, place = part[count:], place + count
        return values

    def write(self, start: int, values: np.ndarray) -> None:
        """Write rows from `start` on, to the disk."""
        part, place = memoryview(values.tobytes()), self._start + start * self._row_bytes
        while len(part):
            count = os.pwrite(self._file.fileno(), part, place)
            part, place = part[count:], place + count
        os.fsync(self._file.fileno())


def rows_in_tensors(states: np.ndarray) -> np.ndarray:
    """Row of each clip in each tensor, int64 `(clips, names)`; -1 without media.

    >>> rows_in_tensors(np.array([[TODO], [NO_MEDIA], [PRESENT]])).T
    array([[ 0, -1,  1]])
    """
    has_row = states != NO_MEDIA
    return np.where(has_row, has_row.cumsum(0, dtype=np.int64) - 1, -1)


def _allocate(path: Path, shape: tuple[int, ...]) -> None:
    """Create a file of zeros with its space reserved: a disk that fills up later would kill the process."""
    np.lib.format.open_memmap(path, "w+", np.float16, shape).flush()
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                path.unlink()
                raise OSError(error.errno, error.strerror, str(path)) from error
