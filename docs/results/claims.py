"""Two claims about the method, tested on every set: gain over uni-modal heads, and less varied contributions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paired import Setting, find, settings_of, variance_cut
from tables import PLAIN, Rows, method_name, number, ratio_name, several, with_half

from amr.fusion.runs.read import Run

GAIN = "gain_over_best_unimodal"


def gains(evaluations: Mapping[str, Mapping[str, Any]]) -> Rows:
    """Gain over the best uni-modal head: naive, and the method that gains most, without and with AMR.

    Args:
        evaluations: Name of a set to the evaluation of its table 1.
    """
    columns = ["set", "naive", "naive, AMR", "what AMR adds to naive", "most without AMR", "most with AMR"]
    rows = []
    for name, evaluation in evaluations.items():
        fused = [group for group in evaluation["groups"] if group["mean"].get(GAIN) is not None]
        plain = [group for group in fused if ratio_name(group) == PLAIN]
        regularized = [group for group in fused if ratio_name(group) != PLAIN]
        naive = [next(group for group in groups if group["method"] == "naive") for groups in (plain, regularized)]
        most = [max(groups, key=lambda group: group["mean"][GAIN]) for groups in (plain, regularized)]
        tests = (each for each in evaluation["comparisons"] if each["measure"] == GAIN)
        added = next(test for test in tests if test["method"] == "naive")
        row = [name, *map(_gain, naive), with_half(added["difference"], added["interval"], "+.3f")]
        rows.append([*row, *(f"{_gain(group)} ({method_name(group)})" for group in most)])
    return columns, rows


def _gain(group: Mapping[str, Any]) -> str:
    return with_half(group["mean"][GAIN], group["interval"].get(GAIN), "+.3f")


def contributions(folders: Mapping[str, tuple[Path, Path]], overlaps: Mapping[str, float]) -> Rows:
    """How balanced single decisions are, at even ratios, and the part of the variance of shares that AMR removes.

    Args:
        folders: Name of a set to the folders of its frontier and of its sweep of level `clip`.
        overlaps: Name of a set to the overlap of its folds.
    """
    columns = ["set", "AMR, even ratio", "accuracy", "share", "share spread", "one-sided", "use share", "variance cut"]
    rows = []
    for name, (frontier, clip_level) in folders.items():
        settings = settings_of(frontier)
        plain = find(settings, lambda run: _is_naive(run) and run.config.amr_ratio is None)
        compared = {
            PLAIN: plain,
            "grad_x_input, batch level": find(settings, lambda run: _is_even(run, "grad_x_input", 1.0)),
            "permutation, batch level": find(settings, lambda run: _is_even(run, "permutation", 0.3)),
            "grad_x_input, clip level": find(settings_of(clip_level), lambda run: _is_even(run, "grad_x_input", 3.0)),
        }
        for label, setting in compared.items():
            cut = variance_cut(setting, plain, overlaps[name])
            text = "-" if setting is plain else with_half(cut.difference, cut.interval, "+.2f")
            rows.append([name, label, *_balance(setting), text])
    return columns, rows


def _is_naive(run: Run) -> bool:
    config = run.config
    return config.method == "naive" and config.embedding_noise is None and config.weight_decay in (None, 0.01)


def _is_even(run: Run, attribution: str, weight: float) -> bool:
    config, targets = run.config, {*(run.record.target_share or {}).values()}
    return len(targets) == 1 and config.attribution == attribution and config.amr_weight == weight


def _balance(setting: Setting) -> list[str]:
    """Accuracy, share, share spread, one-sided clips and use share."""
    first = setting.modalities[0]
    spreads = setting.means("share_spread")
    two = len(spreads) == 2  # the spreads of two shares are equal

    def shown(values: Mapping[str, float]) -> str:
        return several({first: values[first]} if two else values)

    return [
        number(float(setting.values.accuracy.mean())),
        shown(setting.means("share")),
        number(spreads[first]) if two else several(spreads),
        number(float(setting.of_folds("one_sided").mean())),
        shown(setting.use_share),
    ]
