"""The files of a store.

    store.json               origin and shapes; failures, once it is done
    store.states             uint8 (clips, names): NO_MEDIA, TODO, ABSENT or PRESENT
    store.failures.jsonl     failures, until it is done
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
from pathlib import Path
from typing import Literal, Self

import numpy as np

from amr.common.files import replacing

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
            content = json.loads((folder / "store.json").read_text(encoding="utf-8"))
            content["shapes"] = {name: tuple(shape) for name, shape in content["shapes"].items()}
            return cls(**content)
        return None

    def write(self, folder: Path) -> None:
        """Write store.json."""
        with replacing(folder / "store.json", durable=True) as partial:
            partial.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

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

    def states(self, folder: Path, mode: Literal["r", "r+"] = "r") -> np.memmap:
        """Memory-mapped states, uint8 `(clips, names)`."""
        return np.memmap(folder / "store.states", np.uint8, mode, shape=(self.num_clips, len(self.shapes)))

    def is_whole(self, folder: Path) -> bool:
        """Whether every file exists with the right size."""
        try:
            if (folder / "store.states").stat().st_size != self.num_clips * len(self.shapes):
                return False
            num_rows = (self.states(folder) != NO_MEDIA).sum(0).tolist()
            arrays = {name: np.load(path, mmap_mode="r") for name, path in self.tensor_files(folder).items()}
        except (OSError, ValueError, EOFError):
            return False
        return all(
            arrays[name].dtype == np.float16 and arrays[name].shape == shape and shape[0] == rows
            for (name, shape), rows in zip(self.shapes.items(), num_rows, strict=True)
        )


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
