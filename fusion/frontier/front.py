"""The Pareto front of a frontier, chosen on val and reported on test, and the price of moving use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from amr.fusion.choices import SCORES, Score
from amr.fusion.frontier.measure import Measured, shares
from amr.fusion.runs.statistics import paired_test, ratio_interval

TENTH = 0.1


@dataclass(frozen=True)
class Target:
    """The use shares to reach, and how values are compared.

    Args:
        shares: Target of each modality, `(modalities,)`.
        overlap: Number of test clips over number of training clips, if there are folds; else 0.
        max_cost: Most accuracy, or score of another task, that the chosen head may cost on val.
        score: Score of the task.
    """

    shares: np.ndarray
    overlap: float
    max_cost: float
    score: Score = SCORES["multiclass"]

    def distance(self, use_share: np.ndarray) -> float:
        """Part of the use, 0 to 1, that would have to move from some modalities to others; NaN if undefined."""
        return float(np.abs(use_share - self.shares).sum() / 2)


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other beats; the first number is a cost, the second a gain.

    >>> pareto([(0.1, 0.7), (0.2, 0.6), (0.3, 0.8)])
    [0, 2]
    """
    return [
        i
        for i, (cost, gain) in enumerate(points)
        if not any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in points)
    ]


def front_of(measured: Sequence[Measured], target: Target) -> list[Measured]:
    """Settings that no other beats on val, in accuracy and in the distance of use from the target; nearest last."""
    known = [m for m in measured if not np.isnan(m.val.use_share).any()]
    points = [(target.distance(_mean(m.val.use_share)), float(m.val.gain.mean())) for m in known]
    return [known[i] for i in sorted(pareto(points), key=lambda i: -points[i][0])]


def best_of(measured: Sequence[Measured], target: Target) -> Measured | None:
    """Setting nearest to the target on val, of those with runs that cost at most `max_cost` there.

    Settings of the same distance are chosen by accuracy. None if no run uses any modality.
    """
    most = max((float(m.val.gain.mean()) for m in measured[:1]), default=0.0)
    allowed = [
        m
        for m in measured
        if m.runs and float(m.val.gain.mean()) >= most - target.max_cost and not np.isnan(m.val.use_share).any()
    ]
    return min(
        allowed,
        key=lambda m: (target.distance(_mean(m.val.use_share)), -float(m.val.gain.mean())),
        default=None,
    )


def price_of(setting: Measured, plain: Measured, target: Target) -> dict[str, dict[str, Any]] | None:
    """Accuracy lost, use share moved towards the target, and the price of a tenth of it, for each modality.

    Pairs are of one seed and fold; None without a pair. The price is None where the interval of the move contains 0, or
    if the setting is no nearer to the target than the plain head. Its interval is Fieller's.
    """
    both = [(setting.seeds.index(seed), plain.seeds.index(seed)) for seed in setting.seeds if seed in plain.seeds]
    if not both:
        return None
    ours, theirs = zip(*both, strict=True)
    lost = (plain.test.gain[[*theirs]] - setting.test.gain[[*ours]]).ravel()
    moves = setting.test.use_share[[*ours]] - plain.test.use_share[[*theirs]]  # (seeds, folds, modalities)
    towards = np.sign(target.shares - _mean(plain.test.use_share))
    distances = [target.distance(_mean(each.test.use_share)) for each in (setting, plain)]
    cost = paired_test(lost, target.overlap)
    result = {}
    for i, modality in enumerate(plain.modalities):
        move = (moves[..., i] * towards[i]).ravel()
        moved = paired_test(move, target.overlap)
        low = -np.inf if moved.interval is None else moved.interval[0]
        is_priced = low > 0 and distances[0] < distances[1]
        interval = ratio_interval(lost, move, target.overlap) if is_priced else None
        result[modality] = {
            "pairs": len(lost),
            f"{target.score.name}_lost": cost.difference,
            f"{target.score.name}_lost_interval": _listed(cost.interval),
            "moved": moved.difference,
            "moved_interval": _listed(moved.interval),
            "per_tenth": TENTH * cost.difference / moved.difference if is_priced else None,
            "per_tenth_interval": None if interval is None else [TENTH * bound for bound in interval],
        }
    return result


def reported(measured: Measured, target: Target) -> dict[str, Any]:
    """Means on val and test, and 95 % intervals on test over seeds and folds, corrected for the overlap of folds."""

    def named(values: np.ndarray) -> dict[str, float]:
        return dict(zip(measured.modalities, _mean(values).tolist(), strict=True))

    def intervals(values: np.ndarray) -> dict[str, list[float] | None]:
        return {m: _interval(values[..., i], target) for i, m in enumerate(measured.modalities)}

    use_share, shapley = measured.test.use_share, shares(measured.shapley)
    score = target.score
    val, test = (float(score.gain(split.gain.mean())) for split in (measured.val, measured.test))
    return {
        "setting": measured.setting.label,
        "kind": measured.setting.kind,
        "curve": measured.setting.curve,
        "is_control": measured.setting.is_control,
        "has_ratio": measured.setting.has_ratio,
        "seeds": [*measured.seeds],
        "val": {score.name: val, "use_share": named(measured.val.use_share)},
        score.name: test,
        f"{score.name}_interval": _interval(score.gain(measured.test.gain), target),
        "use": named(measured.test.use),
        "use_share": named(use_share),
        "use_share_interval": intervals(use_share),
        "shapley_use_share": named(shapley),
        "shapley_use_share_interval": intervals(shapley),
        "share": _share(measured),
        "distance": target.distance(_mean(use_share)),
        "runs": [run.name for run in measured.runs],
    }


def _share(measured: Measured) -> dict[str, float] | None:
    """Mean share on test by gradient x input; None for modality scaling, or if no clip has one."""
    of_runs = [run.test["share"] for run in measured.runs if run.test is not None]
    if not of_runs or any(value is None for share in of_runs for value in share.values()):
        return None
    return {m: float(np.mean([share[m] for share in of_runs])) for m in measured.modalities}


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over seeds and folds, `(modalities,)`."""
    mean: np.ndarray = values.mean((0, 1))
    return mean


def _interval(values: np.ndarray, target: Target) -> list[float] | None:
    return _listed(paired_test(values.ravel(), target.overlap).interval)


def _listed(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None or not np.isfinite(interval).all() else [*interval]
