"""Two runs, clip by clip: the decisions that the page compares in the browser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from amr.fusion.report.read import ResultFolder
from amr.fusion.report.settings import Setting, reference_of, shown
from amr.fusion.runs.read import Run, best_of

MAX_RUNS = 12  # of one folder
MAX_DECISIONS = 200_000  # of one folder: runs times clips


def compared(results: ResultFolder, settings: Sequence[Setting], folder: str) -> dict[str, Any] | None:
    """Decisions of one run per setting, as the page holds them; None if no decisions are known.

    Args:
        results: Results with the decisions.
        settings: Settings of the results.
        folder: Words for the folder, in the names of runs; empty if the page has only one.
    """
    decisions = results.decisions
    if decisions is None or not len(decisions.ids):
        return None
    most = max(1, min(MAX_RUNS, MAX_DECISIONS // len(decisions.ids)))
    runs = []
    for setting, run in _chosen(settings, most):
        mine = decisions.of([run.name])
        if mine.runs:
            shares = None if mine.shares.shape[-1] < 2 else _hundredths(mine.shares[0, :, 0])
            name = ", ".join(text for text in (folder, setting.label, f"seed {run.seed}") if text)
            preds = _listed(mine.preds[0], mine.tested[0], mine.task)
            runs.append({"name": name, "preds": preds, "shares": shares})
    if not runs:
        return None
    tested = np.asarray(decisions.tested.any(0))
    return {
        "task": decisions.task,
        "classes": [*results.classes],
        "modality": results.modalities[0],
        "ids": decisions.ids.tolist(),
        "target": _listed(decisions.target, tested, decisions.task),
        "runs": runs,
    }


def _chosen(settings: Sequence[Setting], most: int) -> list[tuple[Setting, Run]]:
    """The reference, then one run per setting, all of one seed, so that two runs differ in their setting only."""
    reference = reference_of(settings)
    others = [setting for setting in (*shown(settings), *settings) if setting is not reference]
    ordered = [*([] if reference is None else [reference]), *others]
    unique = list({setting.label: setting for setting in ordered}.values())[:most]
    seed = best_of(unique[0].runs).seed
    return [(setting, next((run for run in setting.runs if run.seed == seed), setting.runs[0])) for setting in unique]


def _listed(decided: np.ndarray, tested: np.ndarray, task: str) -> list[Any]:
    """Class index, indices of the labels, or number of each clip; None if it was not tested."""
    makes: dict[str, Callable[[Any], Any]] = {
        "multiclass": int,
        "multilabel": lambda row: np.flatnonzero(row).tolist(),
        "regression": lambda value: float(f"{value:.5g}"),
    }
    make = makes[task]
    return [make(each) if known else None for each, known in zip(decided, tested, strict=True)]


def _hundredths(shares: np.ndarray) -> list[int | None]:
    return [round(100 * share) if np.isfinite(share) else None for share in shares.astype(float)]
