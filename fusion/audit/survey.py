"""A first pass over the batches: how many clips there are, their targets, some clips as partners, and statistics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amr.fusion.audit.batches import Key, Modalities, check_lengths, read_batches
from amr.fusion.audit.values import Value, clips_of, map_tensors, num_bytes, stack, tensors_of

LEAST_PARTNERS = 2


@dataclass(frozen=True)
class Statistics:
    """Mean and deviation of a modality over clips.

    Args:
        mean: Mean of each number of a clip, `(...)`; None if clips have several shapes.
        std: Deviation of each number, `(...)`; of all numbers, `()`, if clips have several shapes.
    """

    mean: Tensor | None
    std: Tensor


@dataclass(frozen=True)
class Survey:
    """What the first pass over the batches found.

    Args:
        target: Classes `(clips,)`, labels `(clips, labels)` or numbers `(clips,)`.
        partners: Modality to the values of the held clips, from which others take theirs; on the CPU.
        held: Number of each held clip, `(held,)`, ascending if all clips are held.
        statistics: Modality to its statistics; only of modalities that are one tensor of floating-point numbers.
    """

    target: Tensor
    partners: Mapping[str, Sequence[Value]]
    held: Tensor
    statistics: Mapping[str, Statistics]

    @property
    def holds_all(self) -> bool:
        """Whether every clip is held."""
        return len(self.held) == len(self.target)

    def take(self, modality: str, places: Tensor) -> Value:
        """Values of held clips, `(clips, ...)`."""
        held = self.partners[modality]
        return stack([held[i] for i in places.tolist()])


def survey(
    batches: Iterable[Any],
    target: Key | None,
    modalities: Modalities,
    *,
    task: str = "multiclass",
    most_bytes: int,
    seed: int,
) -> Survey:
    """Read all batches once.

    Every clip is held if they fit into `most_bytes`, else a random sample of as many as fit, each clip equally likely.

    Raises:
        ValueError: There are fewer than two clips, or a batch has another form.
    """
    sample = _Sample(most_bytes, np.random.default_rng(np.random.SeedSequence([seed, *b"partners"])))
    running = {m: _Running() for m in modalities.names}
    targets: list[Tensor] = []
    for inputs, of_clips in read_batches(batches, target, task):
        values = modalities.values(inputs)
        check_lengths(values, of_clips)
        values = {m: map_tensors(lambda x: x.detach().cpu(), value) for m, value in values.items()}
        sample.add(values)
        for m, value in values.items():
            check_finite(m, value)
            running[m].add(value)
        if targets and of_clips.shape[1:] != targets[0].shape[1:]:
            raise ValueError(
                f"target must have the same labels in every batch, got {targets[0].shape[1]} and {of_clips.shape[1]}. "
                "Pass one column per label, whether a clip of the batch has it or not."
            )
        targets.append(of_clips)
    if sum(map(len, targets)) < LEAST_PARTNERS:
        raise ValueError(
            f"batches must hold two or more clips, got {sum(map(len, targets))}. Pass an iterable of (inputs, target)."
        )
    found = {m: each.statistics() for m, each in running.items()}
    return Survey(
        torch.cat(targets), sample.values, torch.tensor(sample.clips), {m: s for m, s in found.items() if s is not None}
    )


def check_finite(modality: str, value: Value) -> None:
    """Raise ValueError for NaN and infinity."""
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors_of(value)):
        raise ValueError(f"inputs must be finite, got NaN or infinity in {modality}. Replace them before the audit.")


class _Sample:
    """Random sample of clips, each equally likely (Vitter's algorithm R): as many as fit by the largest of the first
    batch.
    """

    def __init__(self, most_bytes: int, draws: np.random.Generator) -> None:
        self._most_bytes, self._draws = most_bytes, draws
        self._room = self._num_seen = 0
        self.clips: list[int] = []
        self.values: dict[str, list[Value]] = {}

    def add(self, values: Mapping[str, Value]) -> None:
        """Add the clips of a batch."""
        clips = [*zip(*map(clips_of, values.values()), strict=True)]
        if not self.values:
            self.values = {m: [] for m in values}
            self._room = max(LEAST_PARTNERS, self._most_bytes // max(1, *(sum(map(num_bytes, clip)) for clip in clips)))
        for clip in clips:
            self._add_clip(clip)
            self._num_seen += 1

    def _add_clip(self, clip: Sequence[Value]) -> None:
        if self._num_seen < self._room:
            self.clips.append(self._num_seen)
            for held, value in zip(self.values.values(), clip, strict=True):
                held.append(value)
            return
        place = int(self._draws.integers(self._num_seen + 1))
        if place < self._room:
            self.clips[place] = self._num_seen
            for held, value in zip(self.values.values(), clip, strict=True):
                held[place] = value


class _Running:
    """Mean and deviation in one pass, in float64 (Chan et al. 1979), for values that are one tensor."""

    def __init__(self) -> None:
        self._is_continuous, self._shape, self._has_one_shape = True, torch.Size(), True
        self._num = 0
        self._mean = self._squares = torch.zeros(())
        self._numbers = np.zeros(3)  # how many numbers, their sum, and that of their squares

    def add(self, value: Value) -> None:
        """Add the clips of a batch."""
        self._is_continuous &= isinstance(value, Tensor) and value.is_floating_point()
        if not self._is_continuous:
            return
        exact = value.double()
        self._numbers += exact.numel(), float(exact.sum()), float(exact.square().sum())
        if self._num == 0:
            self._shape = value.shape[1:]
        self._has_one_shape &= value.shape[1:] == self._shape
        if self._has_one_shape:
            self._add_exact(exact)

    def _add_exact(self, exact: Tensor) -> None:
        num = len(exact)
        mean = exact.mean(0)
        squares = (exact - mean).square().sum(0)
        if self._num:
            delta, total = mean - self._mean, self._num + num
            squares = self._squares + squares + delta.square() * (self._num * num / total)
            mean = self._mean + delta * (num / total)
        self._num, self._mean, self._squares = self._num + num, mean, squares

    def statistics(self) -> Statistics | None:
        """Mean and deviation; None for values that are not continuous."""
        if not self._is_continuous:
            return None
        if self._has_one_shape:
            return Statistics(self._mean.float(), (self._squares / self._num).sqrt().float())
        count, total, squares = self._numbers
        return Statistics(None, torch.tensor(max(0.0, squares / count - (total / count) ** 2) ** 0.5).float())
