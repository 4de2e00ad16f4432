"""Arrays that come in pieces. Beyond a size they lie in a temporary file without a name instead of memory."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np

from amr.common.files.temporary import needing_room, open_temporary

MEMORY_BYTES = 64 << 20  # what is larger lies in a file
BLOCK_BYTES = 4 << 20  # written at once
MAX_FRAMES_BYTES = 1 << 30  # of one clip, reduced to what an encoder needs


class TooLarge(Exception):
    """A clip is beyond the limits of what is decoded. The message says how to stay within them."""


def check_frames(num_frames: int, num_bytes: int) -> None:
    """Check the size of a clip's frames before they are collected.

    Args:
        num_frames: Number of frames.
        num_bytes: Size of a frame in bytes.

    Raises:
        TooLarge: They are too large.
    """
    if num_frames * num_bytes > MAX_FRAMES_BYTES:
        raise TooLarge(
            f"the frames of a clip must take at most {MAX_FRAMES_BYTES >> 20:,} MiB, got {num_frames:,} frames of "
            f"{num_bytes / (1 << 20):.2f} MiB. Lower rate= or the number of frames, or cut the clip with "
            "start_seconds and end_seconds."
        )


class FileMapping(mmap.mmap):
    """The content of a temporary file without a name, mapped to memory. It vanishes with the last reference."""

    file: BinaryIO


class Spool:
    """Pieces of an array, in their order along the first axis.

    Args:
        clean: Function that is applied in place to the joined pieces, whatever part of them it gets.
    """

    def __init__(self, clean: Callable[[np.ndarray], None] | None = None) -> None:
        self._clean = clean
        self._pieces: list[np.ndarray] = []
        self._num_bytes = 0  # of the pieces in memory
        self._file: BinaryIO | None = None
        self._kind: tuple[tuple[int, ...], np.dtype] | None = None
        self._length = 0

    def __len__(self) -> int:
        """Length along the first axis."""
        return self._length

    def append(self, piece: np.ndarray) -> None:
        """Add a piece. It is not copied until the end, unless the array goes to a file.

        Raises:
            ValueError: The piece differs from the first in its other axes, or in its type.
            TooLarge: The temporary folder has no room for it.
        """
        kind = (piece.shape[1:], piece.dtype)
        if self._kind is None:
            self._kind = kind
        if kind != self._kind:
            raise ValueError(f"pieces must be of one shape and type, got {self._kind} and {kind}.")
        self._pieces.append(piece)
        self._length += len(piece)
        self._num_bytes += piece.nbytes
        if self._num_bytes > (MEMORY_BYTES if self._file is None else BLOCK_BYTES):
            self._write()

    def finish(self) -> np.ndarray:
        """Join the pieces; `(0,)` float32 if there are none. In a file if they are large: see `forget`.

        Raises:
            TooLarge: The temporary folder or the addresses of the process have no room for it.
        """
        if self._kind is None:
            return np.zeros(0, np.float32)
        if self._file is None:
            return self._take()
        self._write()
        shape, dtype = self._kind
        with needing_room("a clip of this length", TooLarge):
            return map_array(self._file, (self._length, *shape), dtype)

    def _take(self) -> np.ndarray:
        joined = np.concatenate(self._pieces)
        self._pieces, self._num_bytes = [], 0
        if self._clean is not None:
            self._clean(joined)
        return joined

    def _write(self) -> None:
        if not self._pieces:
            return
        with needing_room("a clip of this length", TooLarge):
            if self._file is None:
                self._file = open_temporary()
            self._file.write(np.ascontiguousarray(self._take()).data)
            self._file.flush()


def map_array(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Array over the content of a file. Changes of the array do not reach the file."""
    mapping = FileMapping(file.fileno(), 0, access=mmap.ACCESS_COPY)
    mapping.file = file
    return np.ndarray(shape, dtype, buffer=mapping)


def mapping_of(array: np.ndarray) -> FileMapping | None:
    """The file under an array or under the array of which it is a view; None if it is in memory."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, FileMapping) else None


def forget(array: np.ndarray) -> None:
    """Let go of the memory into which an array in a file was read so far. It is read again when needed."""
    forget_mapping(mapping_of(array))


def forget_mapping(mapping: FileMapping | None) -> None:
    """Let go of the memory into which a file was read so far."""
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def blocks(array: np.ndarray, length: int) -> Iterator[np.ndarray]:
    """Blocks of at most `length` along the first axis, of which one is in memory at a time."""
    for first in range(0, len(array), length):
        yield array[first : first + length]
        forget(array)
