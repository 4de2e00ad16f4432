"""Spectra of long sound in pieces, and means over parts of what comes in pieces."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from amr.extract.media.spool import forget

MAX_POINTS = 1 << 24  # windows x frequencies of a sound that is not cut into pieces: 128 MiB of complex numbers
PIECE_POINTS = 1 << 20  # of a piece


def num_windows(num_samples: int, fft_samples: int, hop_samples: int) -> int:
    """Number of windows of a sound that is padded by half a transform at both ends."""
    return 1 + (num_samples + 2 * (fft_samples // 2) - fft_samples) // hop_samples


def is_long(num_samples: int, fft_samples: int, hop_samples: int) -> bool:
    """Whether the spectra of a sound are computed in pieces."""
    return num_windows(num_samples, fft_samples, hop_samples) * (fft_samples // 2 + 1) > MAX_POINTS


def pieces(sound: np.ndarray, fft_samples: int, hop_samples: int) -> Iterator[Tensor]:
    """Yield the samples of consecutive windows, padded with silence outside the sound, for `center=False`.

    Args:
        sound: Sound, `(samples,)`.
        fft_samples: Length of the transform.
        hop_samples: Number of samples from one window to the next.
    """
    num, step = num_windows(len(sound), fft_samples, hop_samples), _windows_at_once(fft_samples)
    for first in range(0, num, step):
        begin = first * hop_samples - fft_samples // 2
        end = (min(first + step, num) - 1) * hop_samples - fft_samples // 2 + fft_samples
        piece = np.zeros(end - begin, np.float32)
        inside = sound[max(begin, 0) : end]
        piece[max(-begin, 0) : max(-begin, 0) + len(inside)] = inside
        forget(sound)
        yield torch.from_numpy(piece)


def _windows_at_once(fft_samples: int) -> int:
    return max(1, PIECE_POINTS // (fft_samples // 2 + 1))


class PartMeans:
    """Means over equal parts of rows that come in pieces: `adaptive_avg_pool1d` in float64 and constant memory.

    Args:
        num_rows: Number of all rows.
        num_parts: Number of parts.
    """

    def __init__(self, num_rows: int, num_parts: int) -> None:
        self._begins = [part * num_rows // num_parts for part in range(num_parts)]
        self._ends = [-(-(part + 1) * num_rows // num_parts) for part in range(num_parts)]
        self._sums: list[Tensor | None] = [None] * num_parts
        self._next = 0

    def add(self, rows: Tensor) -> None:
        """Add the next `(rows, dim)`."""
        first, self._next = self._next, self._next + len(rows)
        for part, (begin, end) in enumerate(zip(self._begins, self._ends, strict=True)):
            if begin < self._next and end > first:
                total = rows[max(begin - first, 0) : end - first].sum(0, dtype=torch.float64)
                before = self._sums[part]
                self._sums[part] = total if before is None else before + total

    def means(self) -> Tensor:
        """Means `(parts, dim)` float64, after all rows were added."""
        totals = torch.stack([each for each in self._sums if each is not None])
        return (
            totals / torch.tensor([end - begin for begin, end in zip(self._begins, self._ends, strict=True)])[:, None]
        )


class Columns:
    """Pictures that come in pieces, resized to a width: bilinear with antialiasing, as `interpolate` of the whole.

    Args:
        num_windows: Width of the whole picture.
        width: Width of the result.
    """

    def __init__(self, num_windows: int, width: int) -> None:
        self._scale = num_windows / width
        self._support = max(self._scale, 1.0)
        self._centers = self._scale * (torch.arange(width, dtype=torch.float64) + 0.5)
        self._sums: Tensor | None = None
        self._totals = torch.zeros(width, dtype=torch.float64)
        self._next = 0

    def add(self, levels: Tensor) -> None:
        """Add the next `(frequencies, windows)`."""
        at = self._next + torch.arange(levels.shape[1], dtype=torch.float64) + 0.5
        self._next += levels.shape[1]
        near = (self._centers >= at[0] - self._support) & (self._centers <= at[-1] + self._support)
        weights = (1 - (at[:, None] - self._centers[near]).abs() / self._support).clamp(min=0)  # (windows, columns)
        if self._sums is None:
            self._sums = torch.zeros(len(levels), len(near), dtype=torch.float64)
        self._sums[:, near] += levels.double() @ weights
        self._totals[near] += weights.sum(0)

    def result(self) -> Tensor:
        """Picture `(frequencies, width)` float32, after all pieces were added."""
        assert self._sums is not None
        return (self._sums / self._totals).float()
