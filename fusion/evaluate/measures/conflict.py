"""Whom a head follows where its modalities disagree: one of clip i with another of a clip j of another class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from amr.fusion.data.clips import Clips, predict_logits
from amr.fusion.evaluate.measures.perturb import Name, Probe, without
from amr.fusion.run_axis.layers import generator

NUM_DRAWS = 10


def per_clip(probe: Probe) -> dict[Name, Tensor]:
    """`conflict, modality` and `conflict, neither` to how often each clip was answered so, `(run, clips)`.

    Every clip that has both modalities of a pair keeps its first, and gets the second of a clip of another class,
    `NUM_DRAWS` times; NaN for the others. The modalities beside the pair are taken away.
    """
    result = {}
    for pair in combinations(probe.modalities, 2):
        columns = [probe.modalities.index(m) for m in pair]
        clips = probe.clips.take(probe.clips.present[:, columns].all(-1))
        clips = without(clips, [m for m in probe.modalities if m not in pair])
        counts = _counts(probe, clips, pair[1])
        rows = probe.clips.present[:, columns].all(-1).cpu()
        for name, count in zip((*pair, "neither"), counts, strict=True):
            every = torch.full((count.shape[0], len(rows)), torch.nan)
            every[:, rows] = count
            result[(*prefix(pair, probe.modalities), name)] = every
    return result


def _counts(probe: Probe, clips: Clips, second: str) -> Tensor:
    """`(3, run, clips)`: how often the answer was the clip's class, the other clip's, or neither."""
    num_runs = next(probe.model.parameters()).shape[0]
    if len(clips) == 0 or len(clips.target.unique()) < 2:
        return torch.full((3, num_runs, len(clips)), torch.nan)
    draws = generator(probe.seed, "conflict")
    totals = torch.zeros(3, num_runs, len(clips))
    for _ in range(NUM_DRAWS):
        partner = of_another_class(clips.target.cpu(), draws).to(clips.target.device)
        answer = predict_logits(probe.model, clips.with_permuted(second, partner)).argmax(-1)
        first, other = answer == clips.target, answer == clips.target[partner]
        totals += torch.stack([first, other, ~(first | other)]).cpu()
    return totals / NUM_DRAWS


def of_another_class(target: Tensor, draws: torch.Generator) -> Tensor:
    """`(clips,)`: for each clip one of another class, each as likely.

    Not a permutation: there is none where a class has more than half of the clips.
    """
    order = target.argsort(stable=True)
    classes, counts = target.unique(return_counts=True)
    place = torch.searchsorted(classes, target)
    starts, own = (counts.cumsum(0) - counts)[place], counts[place]
    drawn = (torch.rand(len(target), generator=draws, dtype=torch.float64) * (len(target) - own)).long()
    return order[drawn + (drawn >= starts) * own]  # the clip's own class is stepped over


def derived(means: Mapping[Name, np.ndarray], modalities: Sequence[str]) -> dict[Name, np.ndarray]:
    """The balance of each pair: 1 - |p_a - p_b| / (p_a + p_b), 1 where both are followed alike."""
    result = {}
    for pair in combinations(modalities, 2):
        name = prefix(pair, modalities)
        first, second = (means[(*name, m)] for m in pair)
        total = first + second
        result[(*name, "balance")] = 1 - np.abs(first - second) / np.where(total > 0, total, np.nan)
    return result


def prefix(pair: Sequence[str], modalities: Sequence[str]) -> Name:
    """`conflict`, and the pair where there are several."""
    return ("conflict",) if len(modalities) == 2 else ("conflict", "/".join(pair))
