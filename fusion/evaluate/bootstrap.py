"""Means over clips under many clip weights (all clips, each fold, resamples) by one matrix product."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from amr.fusion.evaluate.perturb import Name
from amr.fusion.runs.statistics import CONFIDENCE


def resamples(groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draw groups of clips with replacement: `(count, clips)`, how often each clip is in a bootstrap sample.

    Args:
        groups: Group code of each clip, `(clips,)`. Clips of one group (an actor) are not independent, so groups are
            drawn whole. If each clip is its own group, clips are drawn.
        count: Number of samples.
        seed: Seed of the draws.
    """
    names, codes = np.unique(groups, return_inverse=True)
    draws = np.random.default_rng(np.random.SeedSequence([seed, *b"bootstrap"]))
    even = np.full(len(names), 1 / len(names))
    # clip by clip in memory, as sums in float32 depend on it; the draws of all samples together would be twice as large
    weights = np.empty((count, len(codes)), np.float32, order="F")
    for sample in weights:
        sample[:] = draws.multinomial(len(names), even)[codes]
    return weights


class Resamples:
    """Bootstrap samples for many run groups, drawn again only for clips in other groups than the last ones.

    Args:
        count: Number of samples.
        seed: Seed of the draws.
    """

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._seed = count, seed
        self._groups, self._weights = np.empty(0, int), np.empty((count, 0), np.float32)

    def of(self, groups: np.ndarray) -> np.ndarray:
        """`resamples` of group codes `(clips,)`."""
        if not np.array_equal(groups, self._groups):
            self._weights = self._weights[:, :0].copy()  # freed before the next ones are drawn
            self._groups, self._weights = groups, resamples(groups, self._count, self._seed)
        return self._weights


def fold_means(values: Mapping[Name, np.ndarray], folds: np.ndarray, weights: np.ndarray) -> dict[Name, np.ndarray]:
    """Weighted mean of each fold's clips that have a value, then the plain mean over folds: name to `(rows, run)`.

    Args:
        values: Name to `(run, clips)`; NaN if a clip has no value.
        folds: Fold of each clip, `(clips,)`, ascending.
        weights: Clip weights, `(rows, clips)`; a fold without weight is left out.
    """
    names = list(values)
    stacked = np.stack([values[name] for name in names])  # (name, run, clips)
    shape = stacked.shape[:2]
    stacked = stacked.reshape(-1, stacked.shape[-1]).T.astype(weights.dtype)  # (clips, name * run)
    total, num_folds = np.zeros((2, len(weights), stacked.shape[1]), weights.dtype)
    bounds = [*np.flatnonzero(np.diff(folds, prepend=-1)), len(folds)]
    for start, stop in pairwise(bounds):
        fold, weight = stacked[start:stop], weights[:, start:stop]
        absent = np.isnan(fold)
        counted = weight.sum(1, keepdims=True) if not absent.any() else weight @ (~absent).astype(weights.dtype)
        summed = weight @ (np.where(absent, 0, fold) if absent.any() else fold)
        known = counted > 0
        total += np.where(known, summed / np.where(known, counted, 1), 0)
        num_folds += known
    means = np.where(num_folds > 0, total / np.where(num_folds > 0, num_folds, 1), np.nan)
    return dict(zip(names, np.moveaxis(means.reshape(len(weights), *shape), 1, 0), strict=True))


def percentiles(samples: np.ndarray) -> np.ndarray:
    """Interval of `(samples, run)`, NaN left out: `(2, run)`; NaN unless more than half of the samples have a value."""
    ordered = np.sort(samples, axis=0)  # NaN come last
    known = (~np.isnan(ordered)).sum(0)
    bounds = []
    for q in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2):
        position = q * np.maximum(known - 1, 0)
        below = np.floor(position).astype(int)
        above = np.minimum(below + 1, np.maximum(known - 1, 0))
        low, high = (np.take_along_axis(ordered, at[None], 0)[0] for at in (below, above))
        bounds.append(np.where(2 * known > len(ordered), low + (position - below) * (high - low), np.nan))
    return np.stack(bounds)
