"""Prepared clips that are too large for memory, as tensors in temporary files."""

from __future__ import annotations

import os
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amr.common.files.temporary import needing_room
from amr.extract.media.spool import BLOCK_BYTES, FileMapping, Spool, blocks, forget_mapping, map_array, mapping_of


class FileTensor(Tensor):
    """Tensor in a temporary file without a name. Whatever is computed from it, its slices too, is a plain tensor.

    Between processes it travels as its open file: copying takes as much memory as the clip.

    Attributes:
        mapping: The file.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]
    mapping: FileMapping

    def forget(self) -> None:
        """Let go of the memory into which the file was read so far."""
        forget_mapping(self.mapping)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _from_file, (DupFd(self.mapping.file.fileno()), tuple(self.shape), self.numpy().dtype.str)


def as_tensor(array: np.ndarray) -> Tensor:
    """Tensor that shares the memory of an array; a `FileTensor` if the array is in a file. A part of one is copied."""
    mapping = mapping_of(array)
    if mapping is None:
        return torch.from_numpy(array)
    if array.nbytes != len(mapping):
        part = Spool()
        for block in blocks(array, max(1, BLOCK_BYTES * len(array) // max(1, array.nbytes))):
            part.append(block)
        return as_tensor(part.finish())
    in_file = torch.from_numpy(array).as_subclass(FileTensor)
    in_file.mapping = mapping
    return in_file


def forget_all(inputs: Any) -> None:
    """Let go of the memory of those tensors that are in files."""
    for each in inputs:
        if isinstance(each, FileTensor):
            each.forget()


def _from_file(sent: Any, shape: tuple[int, ...], dtype: str) -> Tensor:
    file = os.fdopen(sent.detach(), "rb")  # this fails if the process that sent it is dead, which is no lack of room
    with needing_room("a clip of this length"):
        return as_tensor(map_array(file, shape, np.dtype(dtype)))
