"""Tensors in temporary files, for what may not fit into memory, and clips whose embeddings are such tensors."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from amr.common.files.space import in_units
from amr.common.files.temporary import needing_room, open_temporary
from amr.fusion.data.clips import Clips, chunks_of


def empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device | str = "cpu", *, on_disk: bool) -> Tensor:
    """Tensor without values. On disk, it lies in a temporary file that vanishes with the last reference.

    The system reads and writes the file as its values are used, and takes its memory back when others need it.

    Raises:
        NoRoom: The temporary folder has no room for it, or the addresses of the process have none.
    """
    num_bytes = math.prod(shape) * dtype.itemsize
    if not on_disk or num_bytes == 0:
        return torch.empty(*shape, dtype=dtype, device=device)
    with needing_room(in_units(num_bytes)), open_temporary() as file:
        _reserve(file.fileno(), num_bytes)
        mapping = mmap.mmap(file.fileno(), num_bytes)
    return torch.frombuffer(mapping, dtype=dtype).view(*shape)


def _reserve(descriptor: int, num_bytes: int) -> None:
    """Take the room on the disk now: a mapped file for which there is none ends the process later."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, num_bytes)
        return
    block = bytes(2**20)
    for start in range(0, num_bytes, len(block)):
        os.write(descriptor, block[: num_bytes - start])


@dataclass(frozen=True)
class DiskClips(Clips):
    """Clips whose embeddings are in files; those that `take` and `only` copy are, too."""

    def _select(self, embedding: Tensor, rows: Tensor) -> Tensor:
        rows = rows.to(embedding.device)
        rows = rows.nonzero()[:, 0] if rows.dtype == torch.bool else rows
        selected = empty((len(rows), *embedding.shape[1:]), embedding.dtype, on_disk=True)
        for chunk, output in zip(chunks_of(rows, embedding), chunks_of(selected, embedding), strict=True):
            output.copy_(embedding[chunk])
        return selected
