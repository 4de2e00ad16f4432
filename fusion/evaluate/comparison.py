"""Means of settings over seeds; AMR against none, paired by seed and fold; accuracy against balance over settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import scipy

from amr.fusion.choices import Score
from amr.fusion.evaluate.perturb import Name
from amr.fusion.runs.read import OF_AMR, Run
from amr.fusion.runs.statistics import holm, mean_interval, paired_test, wilcoxon

LEAST_SETTINGS = 4  # with fewer, no order of the settings is rare enough to mean anything
NUM_PERMUTATIONS = 9999
# Measures of the uni-modal heads alone: those of a setting and of the same one without AMR are the same heads. For the
# same reason, a change of the gap is that of the joint probe.
OF_REFERENCES = (
    ("unimodal_accuracy",),
    ("best_unimodal",),
    ("information", "label"),
    ("information", "redundancy"),
    *((name, "unimodal") for name in ("information", "probe", "overfitting", "generalization", "ogr")),
    ("information", "unique"),
    ("probe", "gap"),
)
LEVELS_OF_SCORE = ("accuracy", "missing", "nothing", "alone", "noise")  # first words of measures that are scores


@dataclass(frozen=True)
class Measured:
    """Measures of one run; NaN if undefined.

    Args:
        run: Run that was measured.
        value: Name to value.
        interval: Name to low and high bound, by resampled clips.
        by_fold: Name to `(folds,)`.
        counts: Name to the number of clips in a measure, if they are not all.
        overlap: Ratio of test to training clips if there are folds; else 0.
    """

    run: Run
    value: dict[Name, float]
    interval: dict[Name, tuple[float, float]]
    by_fold: dict[Name, np.ndarray]
    counts: dict[Name, int]
    overlap: float


def in_units(values: Mapping[Name, np.ndarray], score: Score) -> dict[Name, np.ndarray]:
    """Measures by the name of the score: an error is a negative value until here; differences stay as they are.

    Args:
        values: Name to values, `(..., run)`; of intervals, `(2, run)`.
        score: Score of the task; what is called accuracy in `values` is its value.
    """
    result = {}
    for name, value in values.items():
        is_error = score.least_is_best and name[0] in LEVELS_OF_SCORE
        own = (score.name,) if name == ("accuracy",) else name
        result[own] = -value if is_error else value
    return result


def over_seeds(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Mean of each setting's runs, and the 95 % t-interval over their seeds; one dictionary per setting."""
    result = []
    for members in _settings(measured):
        means, intervals = {}, {}
        for name in members[0].value:
            values = [m.value[name] for m in members if not np.isnan(m.value.get(name, np.nan))]
            if not values:
                continue
            mean, half = mean_interval(values)
            means[".".join(name)] = mean
            intervals[".".join(name)] = None if half is None else [mean - half, mean + half]
        seeds = [m.run.config.seed for m in members]
        result.append({**members[0].run.setting, "seeds": seeds, "mean": means, "interval": intervals})
    return result


def against_none(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Compare each setting with AMR to the same setting without; one dictionary per setting and measure.

    p is by the t-test and, from 6 pairs on, by Wilcoxon's test. Holm's correction is over all settings of one measure.
    Wilcoxon's test has no correction for folds with common training clips: with folds, it takes each fold's mean over
    seeds.
    """
    settings = _settings(measured)
    plain = {_without_ratio(members[0].run): members for members in settings if members[0].run.config.amr_ratio is None}
    results = []
    for members in settings:
        controls = plain.get(_without_ratio(members[0].run))
        if members[0].run.config.amr_ratio is None or controls is None:
            continue
        by_seed = {control.run.config.seed: control for control in controls}
        pairs = [(m, by_seed[m.run.config.seed]) for m in members if m.run.config.seed in by_seed]
        for name in members[0].value:
            if name[:1] in OF_REFERENCES or name[:2] in OF_REFERENCES:
                continue
            if name == ("one_sided",) and not _asks_for_even_shares(members[0].run):
                continue  # distances from two ratios
            compared = _compared(pairs, name)
            if compared is not None:
                results.append({**members[0].run.setting, "against": None, "measure": ".".join(name), **compared})
    for _, family in groupby(sorted(results, key=lambda r: r["measure"]), key=lambda r: r["measure"]):
        tests = list(family)
        for p in ("p", "p_wilcoxon"):
            for test, corrected in zip(tests, holm([test[p] for test in tests]), strict=True):
                test[f"{p}_corrected"] = corrected
    return results


def rank_correlations(measured: Sequence[Measured]) -> dict[str, Any] | None:
    """Spearman's rank correlation of accuracy with balance, over the settings that fuse; None if they are too few.

        balance = 1 - sum over m of |s_m - 1/M| / (2 - 2/M),    s the shares, or the use shares

    Balance is 1 if all parts are equal and 0 if one modality has everything. p is by permutation of the settings, exact
    up to 7 of them.

    Returns:
        `share` and `use`, each with `all` settings, and `without_outermost`: without the ratios that are furthest from
        even. Each has `rho`, `p` and the number of settings `n`, and is None if they are too few or equal.
    """
    settings = [members for members in _settings(measured) if members[0].run.fuses]
    if len(settings) < LEAST_SETTINGS:
        return None
    distances = np.array([_unevenness(members[0].run.record.target_share) for members in settings])
    outermost = (distances > 0) & np.isclose(distances, distances.max())
    score = settings[0][0].run.score
    accuracies = np.array([score.gain(_mean_over_runs(members, (score.name,))) for members in settings])
    result: dict[str, Any] = {}
    for kind, name in (("share", "share"), ("use", "use_share")):
        balances = np.array([_balance(members, name) for members in settings])
        known = ~np.isnan(balances)
        result[kind] = {
            "all": _rank_correlation(balances[known], accuracies[known]),
            "without_outermost": _rank_correlation(balances[known & ~outermost], accuracies[known & ~outermost])
            if outermost.any()
            else None,
        }
    return result


def _balance(members: Sequence[Measured], name: str) -> float:
    shares = {m: _mean_over_runs(members, (name, m)) for m in members[0].run.modalities}
    return 1 - _unevenness(shares)


def _unevenness(shares: Mapping[str, float] | None) -> float:
    """Distance of shares from equal ones, 1 if one modality has everything; 0 if there are none."""
    if shares is None:
        return 0.0
    even = 1 / len(shares)
    return sum(abs(share - even) for share in shares.values()) / (2 - 2 * even)


def _mean_over_runs(members: Sequence[Measured], name: Name) -> float:
    """Mean over the runs that have the measure; NaN if none has."""
    values = [value for m in members if not np.isnan(value := m.value.get(name, np.nan))]
    return float(np.mean(values)) if values else float("nan")


def _rank_correlation(balances: np.ndarray, accuracies: np.ndarray) -> dict[str, Any] | None:
    count = len(balances)
    if count < LEAST_SETTINGS or len(set(balances)) == 1 or len(set(accuracies)) == 1:
        return None
    x, y = (scipy.stats.zscore(scipy.stats.rankdata(values)) for values in (balances, accuracies))
    test = scipy.stats.permutation_test(
        (x,),
        lambda x, axis: (x * y).mean(axis),
        permutation_type="pairings",
        vectorized=True,
        n_resamples=NUM_PERMUTATIONS,
        rng=np.random.default_rng(0),
    )
    return {"rho": float(test.statistic), "p": float(test.pvalue), "n": count}


def _compared(pairs: Sequence[tuple[Measured, Measured]], name: Name) -> dict[str, Any] | None:
    pairs = [(with_amr, plain) for with_amr, plain in pairs if name in plain.by_fold]
    if not pairs:
        return None
    differences = np.stack([with_amr.by_fold[name] - plain.by_fold[name] for with_amr, plain in pairs])  # (seed, fold)
    differences = differences[:, ~np.isnan(differences).any(0)]
    if differences.size == 0:
        return None
    overlap = pairs[0][0].overlap
    test = paired_test(differences.ravel(), overlap)
    cross_validated = overlap > 0
    return {
        "num_pairs": test.num_pairs,
        "difference": test.difference,
        "interval": test.interval,
        "effect_size": test.effect_size,
        "test": "t",
        "p": test.p,
        "p_wilcoxon": wilcoxon(differences.mean(0)) if cross_validated else test.p_wilcoxon,
    }


def _settings(measured: Sequence[Measured]) -> list[list[Measured]]:
    """Runs of each setting, in the order of their first run."""
    settings: dict[str, list[Measured]] = {}
    for m in measured:
        settings.setdefault(str(m.run.setting), []).append(m)
    return list(settings.values())


def _asks_for_even_shares(run: Run) -> bool:
    target = run.record.target_share
    return target is None or len(set(target.values())) == 1


def _without_ratio(run: Run) -> str:
    return str({name: value for name, value in run.setting.items() if name not in ("amr_ratio", *OF_AMR)})
