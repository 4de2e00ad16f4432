"""The files of a store.

    store.json               origin and shapes; failures, once it is done
    store.states             uint8 (clips, names): TODO, ABSENT or PRESENT
    store.failures.jsonl     failures, until it is done
    <name>.npy               (clips, *shape) float16: output of the encoder's `prepare`; 0 if absent, NaN
                             after the end of a waveform

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

VERSION = 1
TODO, ABSENT, PRESENT = range(3)


@dataclass(frozen=True)
class StoreInfo:
    """Content of `store.json`.

    Attributes:
        fingerprint: Fingerprint of clips and inputs.
        num_clips: Number of rows of each tensor.
        shapes: Embedding name -> shape of one clip, in the order of the columns of the states.
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

    def create(self, folder: Path) -> None:
        """Create an empty store that replaces an existing one.

        Raises:
            OSError: The disk has too little space.
        """
        states = folder / "store.states"
        states.unlink(missing_ok=True)
        self.write(folder)
        for name, path in self.tensor_files(folder).items():
            _allocate(path, (self.num_clips, *self.shapes[name]))
        self.states(folder, "w+").flush()  # last: a store without states is not continued

    @property
    def num_bytes(self) -> int:
        """Size of all tensors in bytes."""
        return sum(2 * self.num_clips * math.prod(shape) for shape in self.shapes.values())

    def tensor_files(self, folder: Path) -> dict[str, Path]:
        """Files of the tensors: embedding name -> file."""
        return {name: folder / f"{name}.npy" for name in self.shapes}

    def states(self, folder: Path, mode: Literal["r", "r+", "w+"]) -> np.memmap:
        """Memory-mapped states, uint8 `(clips, names)`."""
        return np.memmap(folder / "store.states", np.uint8, mode, shape=(self.num_clips, len(self.shapes)))

    def is_whole(self, folder: Path) -> bool:
        """Whether every file exists with the right size."""
        try:
            arrays = {name: np.load(path, mmap_mode="r") for name, path in self.tensor_files(folder).items()}
            num_states = (folder / "store.states").stat().st_size
        except (OSError, ValueError, EOFError):
            return False
        return num_states == self.num_clips * len(self.shapes) and all(
            arrays[name].dtype == np.float16 and arrays[name].shape == (self.num_clips, *shape)
            for name, shape in self.shapes.items()
        )


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
