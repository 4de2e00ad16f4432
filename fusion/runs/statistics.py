"""Means with intervals, paired tests, and the correction for many of them; what table and evaluation compare by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from scipy.stats import binomtest

CONFIDENCE = 0.95
STILL = 1e-9  # differences that spread less than this differ by rounding only
LEAST_WILCOXON = 6  # with fewer pairs no outcome reaches p < .05


@dataclass(frozen=True)
class PairedTest:
    """What pairs say of a difference; None where there are too few of them, or they do not spread.

    Args:
        num_pairs: how many there are.
        difference: their mean.
        interval: of the mean, by the t distribution.
        effect_size: Cohen's d of the differences: their mean over their deviation.
        p: of the t-test, two-sided.
        p_wilcoxon: of Wilcoxon's signed ranks, two-sided.
    """

    num_pairs: int
    difference: float
    interval: tuple[float, float] | None
    effect_size: float | None
    p: float | None
    p_wilcoxon: float | None


def mean_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float | None]:
    """Mean and half the width of its 95 % t-interval; None for one value.

    >>> mean_interval([0.5])
    (0.5, None)
    """
    values = np.asarray(values, float)
    count, mean = len(values), float(np.mean(values))
    if count < 2:
        return mean, None
    return mean, float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * values.std(ddof=1) / np.sqrt(count))


def paired_test(differences: Sequence[float] | np.ndarray, overlap: float = 0.0) -> PairedTest:
    """Whether paired differences have another mean than 0.

    Folds share most of their training clips, so their differences vary together and the plain t-test finds too much.
    Nadeau & Bengio (2003, Inference for the Generalization Error) put (1/n + overlap) var for var / n, here for all
    pairs of seed and fold, as Bouckaert & Frank (2004) do for repeated folds.

    Args:
        differences: one a pair, at least one.
        overlap: test clips over training clips where the pairs are folds; 0: independent pairs.
    """
    values = np.asarray(differences, float)
    count, mean = len(values), float(np.mean(values))
    if count < 2:
        return PairedTest(count, mean, None, None, None, None)
    spread = float(values.std(ddof=1))
    if spread <= STILL:  # every pair moved alike, but for rounding: no variance to test against
        return PairedTest(count, mean, None, None, 1.0 if abs(mean) <= STILL else None, None)
    error = spread * float(np.sqrt(1 / count + overlap))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, count - 1))
    return PairedTest(count, mean, (mean - half, mean + half), mean / spread, p, wilcoxon(values))


def wilcoxon(differences: Sequence[float] | np.ndarray) -> float | None:
    """p of Wilcoxon's signed ranks, two-sided; None below 6 pairs, of which no outcome reaches .05."""
    values = np.asarray(differences, float)
    if len(values) < LEAST_WILCOXON:
        return None
    values = np.where(np.abs(values) <= STILL, 0.0, values)
    return float(stats.wilcoxon(values).pvalue) if values.any() else 1.0


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction of a family of tests; None stays None and is not counted.

    >>> holm([0.01, None, 0.03])
    [0.02, None, 0.03]
    """
    there = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(there):
        largest = max(largest, min(1.0, p * (len(there) - rank)))
        corrected[i] = largest
    return corrected


Result = dict[str, Any]


def wilson_interval(hits: np.ndarray) -> list[float] | None:
    """95 % interval of a rate (Wilson 1927), None where there are no clips."""
    if len(hits) == 0:
        return None
    low, high = binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95, method="wilson")
    return [float(low), float(high)]


def rate(hits: np.ndarray) -> float | None:
    return float(hits.mean()) if len(hits) else None


def mean(values: np.ndarray) -> float | None:
    mean = float(values.mean()) if len(values) else math.nan
    return None if math.isnan(mean) else mean


def p_text(value: float | None) -> str:
    """A p value as papers print it; a dash for none.

    >>> p_text(0.0004), p_text(0.0412), p_text(None)
    ('<.001', '.041', '-')
    """
    if value is None:
        return "-"
    return "<.001" if value < 0.001 else f"{value:.3f}".replace("0.", ".", 1)
