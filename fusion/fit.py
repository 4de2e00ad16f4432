"""Fit heads on a cache: `amr fit`, and the run groups of `amr sweep`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from amr.common.progress import Progress
from amr.fusion.config import FitConfig
from amr.fusion.data.clips import Clips
from amr.fusion.data.folds import TrainingData, read_training_data
from amr.fusion.loggers.base import Sink, TrackedRun
from amr.fusion.loggers.files import LOGS
from amr.fusion.loggers.group import GroupLog
from amr.fusion.loggers.tracker import check_loggers, tracking
from amr.fusion.resolve import check_cached, member_of, recipe_of, record_of, resolve, takes_steps, without_effect
from amr.fusion.runs.folder import new_run
from amr.fusion.runs.measure import Measures, mean_measures
from amr.fusion.runs.record import RunRecord
from amr.fusion.runs.write import FoldMeasures, write_group, write_metrics
from amr.fusion.swept import check_effects
from amr.fusion.tasks.metrics import mean_average_precisions
from amr.fusion.train.graphs import graphed_step
from amr.fusion.train.hooks import EndToEndHooks
from amr.fusion.train.recipe import Recipe
from amr.fusion.train.trainer import DIVERGED, train_group

Advance = Callable[[float], None]  # called with the fraction of all work done since the last call


@dataclass(frozen=True)
class FitResult:
    """Result of a fit.

    Args:
        run: Folder of the run.
        record: Content of its config.json.
        val, test: Measures of each split, the mean over folds; None if the split has no clips.
        folds: `val` and `test` of each fold; empty without folds.
    """

    run: Path
    record: RunRecord
    val: Measures | None
    test: Measures | None
    folds: tuple[dict[str, Measures | None], ...] = ()

    @property
    def warnings(self) -> list[str]:
        """Sentences about data that make the result doubtful, and about a ratio that was not reached."""
        missed = self.record.missed_target(self.val, self.test)
        return [*self.record.warnings, *([] if missed is None else [missed])]

    def to_json(self) -> dict[str, Any]:
        """Document of `amr fit --json`."""
        result: dict[str, Any] = {
            "run": str(self.run),
            "config": self.record.config.to_json(),
            "val": self.val,
            "test": self.test,
            "target_share": self.record.target_share,
            "notes": list(self.record.notes),
            "warnings": self.warnings,
        }
        if self.folds:
            result["folds"] = list(self.folds)
        return result


def fit(config: FitConfig, progress: Progress | None = None, *, overwrite: bool = False) -> FitResult:
    """Fit a head on the train clips of a cache, select the epoch on val, test once, and write the run folder.

    The folder appears when the run is complete: a fit that fails or is stopped leaves nothing.

    Args:
        config: Settings of the fit.
        progress: Listener; None for no reports.
        overwrite: Whether to replace a run of other settings in `config.out`.

    Raises:
        ValueError: The config does not fit the cache, `config.out` holds something that must not be replaced, or a
            tracker of `config.logger` cannot be used.
        FileNotFoundError: There is no such cache.
        RuntimeError: Training diverged.
    """
    check_loggers(config.logger)
    check_effects(config, [config.amr_ratio], [config.amr_weight])
    check_cached(config)
    ignored = without_effect(config)
    data = read_training_data(config, keep_steps=takes_steps(config))
    config = resolve(config, data.dataset)
    progress = progress or Progress()
    total = config.epochs * len(data.folds)

    def advance(fraction: float) -> None:
        progress.advance(fraction * total)

    record = record_of(config, data)
    record = replace(record, notes=(*ignored, *record.notes))
    with new_run(record, overwrite=overwrite) as (record, unfinished):
        progress.start(total, unit="epochs")
        try:
            with tracking(config.logger, unfinished / LOGS) as sink:
                (result,) = fit_group([record], [unfinished], data, advance, sink=sink)
        finally:
            progress.stop()
        if result is None:
            raise RuntimeError(f"training must stay finite, got a loss or weights that did not. {DIVERGED}")
    return replace(result, run=Path(str(record.config.out)))


def fit_group(
    records: Sequence[RunRecord],
    folders: Sequence[Path | None],
    data: TrainingData,
    advance: Advance = lambda done: None,
    *,
    with_predictions: bool = True,
    sink: Sink | None = None,
) -> list[FitResult | None]:
    """Fit runs of one recipe together and write their folders. The result is None without one, and if a run diverged.

    Args:
        records: Record of each run; all must have the same `recipe_of`.
        folders: Folder of each run; None for a run that is trained only because the others were trained with it.
        data: Training data of the runs.
        advance: Function that is called with the fraction of all work done since the last call.
        with_predictions: Whether to write predictions.csv.
        sink: Receiver of each epoch and of the test measures, for runs with a folder; None if nothing is logged.
    """
    cross_validated = records[0].config.folds > 0
    for record, folder in zip(records, folders, strict=True):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            record.save(folder)
    log = _log(sink, records, folders)
    log.begin()
    by_fold: list[list[FoldMeasures]] = []
    diverged = np.zeros(len(records), bool)
    for k, fold in enumerate(data.folds):
        callback = log.callback(
            partial(_val_map, records[0].config.task, fold.val.target), k if cross_validated else None
        )
        fitted = train_group(
            weighted(recipe_of(records[0]), records[0].config, fold.train),
            [member_of(record) for record in records],
            fold.train,
            fold.val,
            partial(advance, 1 / (records[0].config.epochs * len(data.folds))),
            None if callback is None else EndToEndHooks(callback=callback),
            make_step=graphed_step,
        )
        if callback is not None:
            callback.rest(fitted.history)
        diverged |= fitted.diverged.numpy()
        places = [folder / f"fold-{k}" if folder and cross_validated else folder for folder in folders]
        end = None if cross_validated else log.end
        by_fold.append(
            write_group(records, places, data.dataset, fold, fitted, with_predictions=with_predictions, end=end)
        )
    results: list[FitResult | None] = []
    for run, (record, folder) in enumerate(zip(records, folders, strict=True)):
        if diverged[run]:
            log.end(run, None, diverged=True)
        if folder is None or diverged[run]:
            results.append(None)
        else:
            results.append(_result(record, folder, [m[run] for m in by_fold], partial(log.end, run)))
    return results


def _log(sink: Sink | None, records: Sequence[RunRecord], folders: Sequence[Path | None]) -> GroupLog:
    """Log of a group: a run has the name of its folder, and one without a folder is not logged."""
    runs = [
        None if folder is None else TrackedRun(Path(str(record.config.out)).name, record.config.to_json())
        for record, folder in zip(records, folders, strict=True)
    ]
    return GroupLog(sink, runs, [*records[0].modalities])


def _val_map(task: str, target: Tensor, logits: Tensor) -> dict[str, Tensor]:
    """mAP of each run on val, for loggers; that of labels is their score already, and a number has none."""
    return {"val_map": mean_average_precisions(logits, target)} if task == "multiclass" else {}


def weighted(recipe: Recipe, config: FitConfig, train: Clips) -> Recipe:
    """The recipe with class weights in its loss, if the config asks for them."""
    if config.class_weight == "none":
        return recipe
    weights = recipe.task.balancing_weights(train.target, recipe.shape.head_shape.num_classes)
    return replace(recipe, task=recipe.task.weighted(weights))


def _result(
    record: RunRecord, folder: Path, folds: list[FoldMeasures], end: Callable[[Measures | None], None]
) -> FitResult:
    """Result of a run. With folds, `end` gets the test measures before the last file is written."""
    if record.config.folds == 0:
        return FitResult(folder, record, folds[0]["val"], folds[0]["test"])
    val, test = (mean_measures([m for fold in folds if (m := fold[split]) is not None]) for split in ("val", "test"))
    end(test)
    write_metrics(folder, {"val": val, "test": test, "folds": folds})
    return FitResult(folder, record, val, test, tuple(folds))
