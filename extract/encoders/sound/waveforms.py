"""Speech models on waveforms: clips of equal length together, long ones in pieces; and pooling of their steps."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from amr.extract.encoders.file_tensor import forget_all
from amr.extract.encoders.model import ModelEncoder
from amr.extract.encoders.sound.windows import PartMeans
from amr.extract.media.spool import Spool, blocks

BLOCK_SAMPLES = 1 << 20  # of a long sound, in memory at once


class WaveformEncoder(ModelEncoder):
    """Encoder with a model from `(clips, samples)` to `(clips, steps, embed_dim)`.

    Attributes:
        most_samples: Number of samples that the model hears at once.
        fewest_samples: Number of samples that it needs for one step.
    """

    modality = "audio"
    rows_at_once = 16
    most_samples: int
    fewest_samples: int

    @abstractmethod
    def num_steps(self, num_samples: int) -> int:
        """Number of steps of a sound."""

    def embed(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Pass clips of equal length through the model together. Padding would change the shorter ones.

        Clips longer than `most_samples` go through in equal pieces, whose steps follow each other: attention over
        a whole recording of hours would not fit into memory.

        Args:
            inputs: Sound of each clip, `(samples,)`.
        """
        by_length: dict[int, list[int]] = defaultdict(list)
        embeddings: dict[int, Tensor] = {}
        for at, sound in enumerate(inputs):
            if len(sound) > self.most_samples:
                embeddings[at] = self._embed_long(sound)
            else:
                by_length[len(sound)].append(at)
        for at_this_length in by_length.values():
            for first in range(0, len(at_this_length), self.rows_at_once):
                places = at_this_length[first : first + self.rows_at_once]
                steps = self.features(torch.stack([inputs[at] for at in places]))
                embeddings.update(zip(places, map(self.pool, steps), strict=True))
        return [embeddings[at] for at in range(len(inputs))]

    def _embed_long(self, sound: Tensor) -> Tensor:
        """Embedding of one clip's sound, `(samples,)`, in equal pieces, the last of which may be a little shorter."""
        num_pieces = math.ceil(len(sound) / self.most_samples)
        starts = range(0, len(sound), math.ceil(len(sound) / num_pieces))
        lengths = [min(starts.step, len(sound) - start) for start in starts]
        if lengths[-1] < self.fewest_samples:  # too short for a step
            lengths.pop()
        pooled = PooledSteps(self.keep, sum(map(self.num_steps, lengths)), self.max_steps)
        for start, length in zip(starts, lengths, strict=False):
            pooled.add(self.features(sound[None, start : start + length])[0])
            forget_all([sound])
        return pooled.result()


class PooledSteps:
    """Pooling of a clip's steps that come in parts, in constant memory.

    Args:
        pool: Pooling: mean, max or steps.
        num_steps: Number of all steps.
        max_steps: Maximum number of steps of the result, for steps.
    """

    def __init__(self, pool: str, num_steps: int, max_steps: int | None) -> None:
        self._pool = pool
        self._means = PartMeans(num_steps, min(max_steps or 1, num_steps)) if pool != "max" else None
        self._most: Tensor | None = None

    def add(self, steps: Tensor) -> None:
        """Add the next `(steps, dim)`."""
        if self._means is not None:
            self._means.add(steps)
        elif len(steps):
            most = steps.amax(0)
            self._most = most if self._most is None else torch.maximum(self._most, most)

    def result(self) -> Tensor:
        """Embedding `(dim,)`, or `(steps, dim)` for steps, after all steps were added."""
        if self._means is None:
            assert self._most is not None
            return self._most
        means = self._means.means().float()
        return means if self._pool == "steps" else means[0]


def normalized(sound: np.ndarray, eps: float) -> Spool:
    """Sound in a file, with mean 0 and variance 1.

    Args:
        sound: Sound, `(samples,)`.
        eps: Number that is added to the variance.
    """
    num, sums = len(sound), np.zeros(2)
    for block in blocks(sound, BLOCK_SAMPLES):
        exact = block.astype(np.float64)
        sums += exact.sum(), np.square(exact).sum()
    mean = sums[0] / num
    scale = 1 / np.sqrt(sums[1] / num - mean**2 + eps)
    result = Spool()
    for block in blocks(sound, BLOCK_SAMPLES):
        result.append(((block - mean) * scale).astype(np.float32))
    return result
