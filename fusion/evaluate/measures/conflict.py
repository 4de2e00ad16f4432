"""Conflict: which modality a head follows if one is from clip i and the other from clip j of another class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from amr.fusion.data.clips import Clips
from amr.fusion.evaluate.measures.base import Measure, measures
from amr.fusion.evaluate.perturb import Name, Subject, without
from amr.fusion.model import predict_logits
from amr.fusion.run_axis.seeds import generator

NUM_DRAWS = 10


def per_clip(subject: Subject) -> dict[Name, Tensor]:
    """Keys `conflict, modality` and `conflict, neither`: how often each clip got that prediction, `(run, clips)`.

    A clip with both modalities of a pair keeps the first and gets the second from a clip of another class,
    `NUM_DRAWS` times. Other clips are NaN. Modalities outside the pair are removed.
    """
    result = {}
    for pair in combinations(subject.modalities, 2):
        columns = [subject.modalities.index(m) for m in pair]
        rows = subject.clips.present[:, columns].all(-1)
        counts = _counts(subject, subject.clips.view(rows), pair)
        rows = rows.cpu()
        for name, count in zip((*pair, "neither"), counts, strict=True):
            values = torch.full((count.shape[0], len(rows)), torch.nan)
            values[:, rows] = count
            result[(*prefix(pair, subject.modalities), name)] = values
    return result


def _counts(subject: Subject, clips: Clips, pair: tuple[str, str]) -> Tensor:
    """How often the prediction was the clip's class, the other clip's, or neither: `(3, run, clips)`."""
    if len(clips) == 0 or len(clips.target.unique()) < 2:
        return torch.full((3, subject.num_runs, len(clips)), torch.nan)
    draws = generator(subject.seed, "conflict")
    only_pair = partial(without, modalities=[m for m in subject.modalities if m not in pair])
    totals = torch.zeros(3, subject.num_runs, len(clips))
    for _ in range(NUM_DRAWS):
        partner = of_another_class(clips.target.cpu(), draws).to(clips.target.device)
        predicted = predict_logits(subject.model, clips.with_permuted(pair[1], partner), only_pair).argmax(-1)
        first, other = predicted == clips.target, predicted == clips.target[partner]
        totals += torch.stack([first, other, ~(first | other)]).cpu()
    return totals / NUM_DRAWS


def of_another_class(target: Tensor, draws: torch.Generator, others: Tensor | None = None) -> Tensor:
    """Draw for each clip a clip of another class, each equally likely: `(clips,)`.

    This is not a permutation: none exists if a class has more than half of the clips.

    Args:
        target: Classes of the clips, `(clips,)`.
        draws: Stream of random numbers.
        others: Classes of the clips to draw from, `(others,)`, two or more; None for those of `target`.
    """
    others = target if others is None else others
    order = others.argsort(stable=True)
    starts, ends = (torch.searchsorted(others[order], target, right=right) for right in (False, True))
    own = ends - starts
    drawn = (torch.rand(len(target), generator=draws, dtype=torch.float64) * (len(others) - own)).long()
    return order[drawn + (drawn >= starts) * own]  # skips the clip's own class


def derived(means: Mapping[Name, np.ndarray], modalities: Sequence[str]) -> dict[Name, np.ndarray]:
    """Balance of each pair: 1 - |p_a - p_b| / (p_a + p_b); 1 if both are followed equally often."""
    result = {}
    for pair in combinations(modalities, 2):
        name = prefix(pair, modalities)
        first, second = (means[(*name, m)] for m in pair)
        total = first + second
        result[(*name, "balance")] = 1 - np.abs(first - second) / np.where(total > 0, total, np.nan)
    return result


def prefix(pair: Sequence[str], modalities: Sequence[str]) -> Name:
    """`conflict`, followed by the pair if there are several."""
    return ("conflict",) if len(modalities) == 2 else ("conflict", "/".join(pair))


@measures.register("conflict")
class Conflict(Measure):
    """How often the prediction follows each modality if modalities of two classes are put together."""

    summary = (
        "which modality the prediction follows if modalities of two classes are put together, and how balanced that is"
    )
    least_modalities = 2
    words: ClassVar[Mapping[str, str]] = {
        "conflict.balance": "balance under conflict",
        "conflict": "under conflict, follows",
    }

    def per_clip(self, subject: Subject) -> dict[Name, Tensor]:
        """Keys `conflict, modality` and `conflict, neither`: how often each clip got that prediction."""
        return per_clip(subject)

    def derived(self, means: Mapping[Name, np.ndarray], modalities: Sequence[str]) -> dict[Name, np.ndarray]:
        """Key `conflict, balance`: balance of each pair."""
        return derived(means, modalities)
