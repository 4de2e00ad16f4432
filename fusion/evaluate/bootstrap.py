"""Means over clips under any weights of the clips: the point, each fold, and resamples, by one matrix product."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from amr.fusion.evaluate.measures.perturb import Name
from amr.fusion.runs.statistics import CONFIDENCE


def resamples(groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`(count, clips)`: how often each clip is in a bootstrap sample; whole groups are drawn, with replacement.

    Args:
        groups: `(clips,)`: a code of each clip's group. Clips of one group (an actor) are no independent witnesses;
            where each clip is its own group, clips are drawn.
        count: samples.
        seed: of the draws.
    """
    names, codes = np.unique(groups, return_inverse=True)
    draws = np.random.default_rng(np.random.SeedSequence([seed, *b"bootstrap"]))
    counts = draws.multinomial(len(names), np.full(len(names), 1 / len(names)), size=count)
    return counts[:, codes].astype(np.float32)


def fold_means(values: Mapping[Name, np.ndarray], folds: np.ndarray, weights: np.ndarray) -> dict[Name, np.ndarray]:
    """Each fold's weighted mean of the clips that have a value, then the plain mean of the folds: `(rows, run)` each.

    Args:
        values: name to `(run, clips)`; NaN where a clip has none.
        folds: `(clips,)`: each clip's fold, in ascending order.
        weights: `(rows, clips)`; a fold without weight is left out.
    """
    names = list(values)
    stacked = np.stack([values[name] for name in names])  # (name, run, clips)
    shape = stacked.shape[:2]
    stacked = stacked.reshape(-1, stacked.shape[-1]).T.astype(weights.dtype)  # (clips, name * run)
    total, there = np.zeros((2, len(weights), stacked.shape[1]), weights.dtype)
    bounds = [*np.flatnonzero(np.diff(folds, prepend=-1)), len(folds)]
    for start, stop in pairwise(bounds):
        part, weight = stacked[start:stop], weights[:, start:stop]
        absent = np.isnan(part)
        counted = weight.sum(1, keepdims=True) if not absent.any() else weight @ (~absent).astype(weights.dtype)
        summed = weight @ (np.where(absent, 0, part) if absent.any() else part)
        known = counted > 0
        total += np.where(known, summed / np.where(known, counted, 1), 0)
        there += known
    means = np.where(there > 0, total / np.where(there > 0, there, 1), np.nan)
    return dict(zip(names, np.moveaxis(means.reshape(len(weights), *shape), 1, 0), strict=True))


def percentiles(samples: np.ndarray) -> np.ndarray:
    """`(2, run)`: the interval of `(samples, run)`, NaN left out; NaN where more than half of the samples have none."""
    ordered = np.sort(samples, axis=0)  # NaN come last
    known = (~np.isnan(ordered)).sum(0)
    bounds = []
    for q in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2):
        place = q * np.maximum(known - 1, 0)
        below = np.floor(place).astype(int)
        above = np.minimum(below + 1, np.maximum(known - 1, 0))
        low, high = (np.take_along_axis(ordered, at[None], 0)[0] for at in (below, above))
        bounds.append(np.where(2 * known > len(ordered), low + (place - below) * (high - low), np.nan))
    return np.stack(bounds)
