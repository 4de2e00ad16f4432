"""Means with intervals, paired tests, and their correction for multiple testing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

CONFIDENCE = 0.95
FRACTION = (0.0, 1.0)  # lowest and highest value of most measures
ROUNDING = 1e-9  # differences with a smaller deviation than this differ by rounding only
MIN_VALUES_INTERVAL = 3  # the t-interval of two values is 12.7 times their standard error, or 0 if they happen to agree
MIN_PAIRS = MIN_VALUES_INTERVAL  # of a paired test: two differences that happen to agree have any p and effect size
MIN_PAIRS_WILCOXON = 6  # with fewer pairs no outcome reaches p < .05


@dataclass(frozen=True)
class PairedTest:
    """Result of a paired test; values are None if pairs are fewer than three or all differences are equal.

    Args:
        num_pairs: Number of pairs.
        difference: Mean difference.
        interval: 95 % interval of the mean, by the t distribution.
        effect_size: Cohen's d of the differences: their mean over their deviation.
        p: p value of the t-test, two-sided.
        p_wilcoxon: p value of Wilcoxon's signed ranks, two-sided.
    """

    num_pairs: int
    difference: float
    interval: tuple[float, float] | None
    effect_size: float | None
    p: float | None
    p_wilcoxon: float | None


def t_quantile(count: int) -> float:
    """Half the width of the 95 % t-interval of the mean of `count` values, in standard errors.

    It is `scipy.stats.t.ppf`, without importing `scipy.stats`, which takes as long as a small sweep.
    """
    return float(scipy.special.stdtrit(count - 1, (1 + CONFIDENCE) / 2))


def mean_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float | None]:
    """Mean and half the width of its 95 % t-interval, which is None for fewer than three values.

    >>> mean_interval([0.5, 0.5])
    (0.5, None)
    """
    values = np.asarray(values, float)
    count, mean = len(values), float(np.mean(values))
    if count < MIN_VALUES_INTERVAL:
        return mean, None
    return mean, float(t_quantile(count) * values.std(ddof=1) / np.sqrt(count))


def interval_inside(
    mean: float | None, half: float | None, bounds: tuple[float, float] = FRACTION
) -> tuple[float, float] | None:
    """Low and high end of the interval of a measure, inside the values that it can have.

    A mean that is itself outside, as a Shapley use share can be, keeps its interval.

    Args:
        mean: Mean of the measure.
        half: Half the width of the interval.
        bounds: Lowest and highest value of the measure.

    >>> interval_inside(0.75, 0.5)
    (0.25, 1.0)
    """
    if mean is None or half is None:
        return None
    low, high = mean - half, mean + half
    return (max(low, bounds[0]), min(high, bounds[1])) if bounds[0] <= mean <= bounds[1] else (low, high)


def paired_test(differences: Sequence[float] | np.ndarray, overlap: float = 0.0) -> PairedTest:
    """Test whether the mean of paired differences is 0; with fewer than three pairs, only take the mean.

    Folds share most of their training clips, so their differences are correlated and the plain t-test finds too much.
    Nadeau & Bengio (2003, Inference for the Generalization Error) replace var / n by (1/n + overlap) var, here for all
    pairs of seed and fold, as Bouckaert & Frank (2004) do for repeated folds.

    Args:
        differences: Difference of each pair, at least one.
        overlap: Number of test clips over number of training clips, if the pairs are folds; 0 for independent pairs.
    """
    values = np.asarray(differences, float)
    count, mean = len(values), float(np.mean(values))
    if count < MIN_PAIRS:
        return PairedTest(count, mean, None, None, None, None)
    spread = float(values.std(ddof=1))
    if spread <= ROUNDING:  # no variance to test against
        return PairedTest(count, mean, None, None, 1.0 if abs(mean) <= ROUNDING else None, None)
    error = spread * float(np.sqrt(1 / count + overlap))
    half = t_quantile(count) * error
    p = float(2 * scipy.special.stdtr(count - 1, -abs(mean) / error))
    return PairedTest(count, mean, (mean - half, mean + half), mean / spread, p, wilcoxon(values))


def ratio_interval(
    numerators: Sequence[float] | np.ndarray, denominators: Sequence[float] | np.ndarray, overlap: float = 0.0
) -> tuple[float, float] | None:
    """95 % interval of mean(numerators) / mean(denominators) of pairs (Fieller 1954); None if it is not bounded.

    Args:
        numerators: One value of each pair.
        denominators: The other value of each pair.
        overlap: Number of test clips over number of training clips, as in `paired_test`.

    >>> interval = ratio_interval([0.1, 0.2, 0.3], [1.0, 1.0, 1.0])
    >>> [round(bound, 3) for bound in interval]
    [-0.048, 0.448]
    """
    pairs = np.stack([np.asarray(numerators, float), np.asarray(denominators, float)])
    count = pairs.shape[1]
    if count < MIN_VALUES_INTERVAL:
        return None
    above, below = pairs.mean(1)
    quantile = t_quantile(count)
    (var_above, both), (_, var_below) = np.cov(pairs) * (1 / count + overlap) * quantile**2
    a, b, c = below**2 - var_below, above * below - both, above**2 - var_above
    if a <= 0:
        return None
    root = math.sqrt(max(b**2 - a * c, 0.0))
    return float((b - root) / a), float((b + root) / a)


def wilcoxon(differences: Sequence[float] | np.ndarray) -> float | None:
    """p value of Wilcoxon's signed ranks, two-sided; None below 6 pairs, with which no outcome reaches .05."""
    values = np.asarray(differences, float)
    if len(values) < MIN_PAIRS_WILCOXON:
        return None
    values = np.where(np.abs(values) <= ROUNDING, 0.0, values)
    return float(scipy.stats.wilcoxon(values).pvalue) if values.any() else 1.0


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p values of a family of tests after Holm's correction; None stays None and is not counted.

    >>> holm([0.01, None, 0.03])
    [0.02, None, 0.03]
    """
    ordered = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(ordered):
        largest = max(largest, min(1.0, p * (len(ordered) - rank)))
        corrected[i] = largest
    return corrected


Result = dict[str, Any]


def wilson_interval(hits: np.ndarray) -> list[float] | None:
    """95 % Wilson interval of the fraction of `hits`, bool `(clips,)`; None if there are no clips (Wilson 1927)."""
    if len(hits) == 0:
        return None
    low, high = scipy.stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95, method="wilson")
    return [float(low), float(high)]


def rate(hits: np.ndarray) -> float | None:
    """Fraction of hits, bool `(clips,)`; None without clips."""
    return float(hits.mean()) if len(hits) else None


def mean(values: np.ndarray) -> float | None:
    """Mean value; None without values or if it is NaN."""
    mean = float(values.mean()) if len(values) else math.nan
    return None if math.isnan(mean) else mean


def p_text(value: float | None) -> str:
    """Text of a p value as in papers, without the zero before the point; a dash for None.

    >>> p_text(0.0004), p_text(0.0412), p_text(1.0), p_text(None)
    ('<.001', '.041', '>.999', '-')
    """
    if value is None:
        return "-"
    if value < 0.001:
        return "<.001"
    return ">.999" if value >= 0.9995 else f"{value:.3f}".removeprefix("0")


def why_no_test(num_pairs: int) -> str | None:
    """Why a paired test is not made; None if there are enough pairs.

    >>> why_no_test(2), why_no_test(3)
    ('2 pairs are too few for a paired test, which needs three', None)
    """
    if num_pairs >= MIN_PAIRS:
        return None
    pairs = "1 pair is" if num_pairs == 1 else f"{num_pairs} pairs are"
    return f"{pairs} too few for a paired test, which needs three"
