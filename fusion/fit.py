"""Fit heads on a cache: `amr fit`, and the groups of `amr sweep`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from amr.common.files import write_json
from amr.common.progress import Progress
from amr.common.workspace import runs_dir
from amr.fusion.config import FitConfig
from amr.fusion.data.folds import TrainingData, read_training_data
from amr.fusion.resolve import member_of, recipe_of, record_of, resolve, takes_steps
from amr.fusion.runs.folder import new_folder
from amr.fusion.runs.measure import Measures, mean_measures
from amr.fusion.runs.record import RunRecord
from amr.fusion.runs.write import FoldMeasures, write_group
from amr.fusion.train.trainer import DIVERGED, train_group

Advance = Callable[[float], None]  # called with the part of all work that was done since the last call


@dataclass(frozen=True)
class FitResult:
    """What a fit comes to.

    Args:
        run: its folder.
        record: what its config.json says.
        val, test: measures of the parts; None where there is no such clip.
        folds: the same for each fold, where there are folds.
    """

    run: Path
    record: RunRecord
    val: Measures | None
    test: Measures | None
    folds: tuple[dict[str, Measures | None], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The document of `amr fit --json`."""
        result: dict[str, Any] = {
            "run": str(self.run),
            "config": asdict(self.record.config),
            "val": self.val,
            "test": self.test,
            "notes": list(self.record.notes),
        }
        if self.folds:
            result["folds"] = list(self.folds)
        return result


def fit(config: FitConfig, progress: Progress | None = None) -> FitResult:
    """Fit a head on a cache's train clips, choose the epoch on val, test once, and write the run folder.

    Args:
        config: what to do.
        progress: Listener.

    Raises:
        ValueError: the request does not fit the cache.
        FileNotFoundError: there is no such cache.
        RuntimeError: training diverged.
    """
    data = read_training_data(config, keep_steps=takes_steps(config))
    config = resolve(config, data.dataset)
    config, folder = new_folder(config, data.cache, runs_dir())
    progress = progress or Progress()
    total = config.epochs * len(data.folds)
    progress.start(total, unit="epochs")
    try:
        result = fit_group([record_of(config, data)], [folder], data, lambda part: progress.advance(part * total))[0]
    finally:
        progress.stop()
    if result is None:
        raise RuntimeError(f"training must stay finite, got a loss or weights that did not. {DIVERGED}")
    return result


def fit_group(
    records: Sequence[RunRecord],
    folders: Sequence[Path],
    data: TrainingData,
    advance: Advance = lambda part: None,
    *,
    with_predictions: bool = True,
) -> list[FitResult | None]:
    """Fit runs of one recipe together and write each one's folder; None for a run that diverged.

    Args:
        records: of one recipe (`recipe_of`).
        folders: where each goes.
        source: the cache they are of.
        advance: called with the part of all work that was done since the last call.
        with_predictions: write predictions.csv, too.
    """
    cross_validated = records[0].config.folds > 0
    for record, folder in zip(records, folders, strict=True):
        folder.mkdir(parents=True, exist_ok=True)
        record.save(folder)
    by_fold: list[list[FoldMeasures]] = []
    diverged = np.zeros(len(records), bool)
    for k, fold in enumerate(data.folds):
        members = [member_of(record) for record in records]
        fitted = train_group(
            recipe_of(records[0]),
            members,
            fold.train,
            fold.val,
            partial(advance, 1 / (records[0].config.epochs * len(data.folds))),
        )
        diverged |= fitted.diverged.numpy()
        places = [folder / f"fold-{k}" if cross_validated else folder for folder in folders]
        by_fold.append(write_group(records, places, data.dataset, fold, fitted, with_predictions=with_predictions))
    return [
        None if diverged[run] else _result(record, folder, [results[run] for results in by_fold], cross_validated)
        for run, (record, folder) in enumerate(zip(records, folders, strict=True))
    ]


def _result(record: RunRecord, folder: Path, folds: list[FoldMeasures], cross_validated: bool) -> FitResult:
    if not cross_validated:
        return FitResult(folder, record, folds[0]["val"], folds[0]["test"])
    val, test = (mean_measures([m for fold in folds if (m := fold[part]) is not None]) for part in ("val", "test"))
    write_json(folder / "metrics.json", {"val": val, "test": test, "folds": folds})
    return FitResult(folder, record, val, test, tuple(folds))
