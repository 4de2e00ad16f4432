"""Embeddings that do not fit into memory: tensors in temporary files, and clips whose batches read them in blocks."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from amr.fusion.data.clips import Clips

WINDOW_BYTES = 2**28  # of the clips that are shuffled with each other, and so are in memory at the same time


def empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device | str = "cpu", *, on_disk: bool) -> Tensor:
    """Tensor without values. On disk, it lies in a temporary file that vanishes with the last reference.

    The system reads and writes the file as its values are used, and takes its memory back when others need it.

    Raises:
        OSError: The temporary folder has no room for it.
    """
    num_bytes = math.prod(shape) * dtype.itemsize
    if not on_disk or num_bytes == 0:
        return torch.empty(*shape, dtype=dtype, device=device)
    with tempfile.TemporaryFile(prefix="amr-") as file:
        _reserve(file.fileno(), num_bytes)
        mapping = mmap.mmap(file.fileno(), num_bytes)
    return torch.frombuffer(mapping, dtype=dtype).view(*shape)


def _reserve(descriptor: int, num_bytes: int) -> None:
    """Take the room on the disk now: a mapped file for which there is none ends the process later."""
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, num_bytes)
            return
        block = bytes(2**20)
        for start in range(0, num_bytes, len(block)):
            os.write(descriptor, block[: num_bytes - start])
    except OSError as error:
        raise OSError(
            error.errno,
            f"the temporary folder {tempfile.gettempdir()!r} must have room for the embeddings, which do not fit into "
            f"memory, {num_bytes / 2**30:.1f} GiB at a time, got {error.strerror}. Free space there, or set TMPDIR",
        ) from error


@dataclass(frozen=True)
class DiskClips(Clips):
    """Clips whose embeddings are in files, and which are shuffled so that few parts of these are read at a time."""

    @property
    def window(self) -> int:
        """Number of clips that are shuffled with each other."""
        clip_bytes = sum(e.shape[1:].numel() * e.dtype.itemsize for e in self.embeddings.values())
        return max(1, WINDOW_BYTES // max(1, clip_bytes))

    def _select(self, embedding: Tensor, rows: Tensor) -> Tensor:
        rows = rows.to(embedding.device)
        rows = rows.nonzero()[:, 0] if rows.dtype == torch.bool else rows
        selected = empty((len(rows), *embedding.shape[1:]), embedding.dtype, on_disk=True)
        for chunk, output in zip(rows.split(self.window), selected.split(self.window), strict=True):
            output.copy_(embedding[chunk])
        return selected
